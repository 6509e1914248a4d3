"""Small feature networks (a CNN, a transformer, a CLIP) trained in minutes on own images, where no pretrained
ones are to be had."""
