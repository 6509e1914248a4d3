"""Small networks that read what generated images of the embedded data show, and have trained nothing else."""
