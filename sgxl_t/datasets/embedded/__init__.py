"""The data sets that come with the package: handwritten digits, and emoji scenes that are drawn when asked
for."""
