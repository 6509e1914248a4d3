"""The settings of a run on own pictures, chosen from what the pictures are, how fast this machine is, and how
many minutes there are."""
