"""Folders and archives of image files, and the places where their labels and captions are looked for."""
