"""Model folders, their cards, and the files of the published releases."""
