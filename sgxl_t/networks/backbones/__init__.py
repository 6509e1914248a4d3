"""Frozen networks that look at images, named by reference: pretrained, random, or trained on own images."""
