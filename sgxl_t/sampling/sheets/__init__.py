"""Sheets that compare: style-mixing tables, the stages of a chain, nearest images of a data set."""
