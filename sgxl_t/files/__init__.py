"""Files on disk: written whole, opened safely, read without trust, shown without harm."""
