"""emoji-worlds: everyday things by several artists on drawn scenes, with free captions and attributes."""
