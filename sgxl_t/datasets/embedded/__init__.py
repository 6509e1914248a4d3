"""The data sets that the package brings along: digits and emoji-scenes."""
