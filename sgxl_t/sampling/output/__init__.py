"""Images on disk: files, grids, sheets, animations, and the recipe that each file holds."""
