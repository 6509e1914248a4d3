"""Files on disk: written whole or not at all, opened safely, read without trust, and shown without harm."""
