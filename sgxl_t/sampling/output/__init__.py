"""Images as files: PNGs that say what they were made from, grids, sheets, strips, animations."""
