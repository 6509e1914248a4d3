"""Tables of captions and labels: CSV, JSON, parquet."""
