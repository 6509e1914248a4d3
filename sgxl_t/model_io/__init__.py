"""Model folders (a generator with what its condition needs), their cards, and the files of the published
releases."""
