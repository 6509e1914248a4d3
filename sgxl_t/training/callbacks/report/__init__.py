"""report.html of a run: what its pictures look like, what its numbers mean, and what to do about them."""
