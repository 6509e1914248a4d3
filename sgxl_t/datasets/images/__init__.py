"""Folders and archives of image files, and where their labels and captions are found."""
