"""`sgxl-t sample` and `sgxl-t interpolate`: from prompts and options to files of images."""
