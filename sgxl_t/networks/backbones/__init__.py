"""Frozen networks that look at images: by reference, pretrained, random or trained locally."""
