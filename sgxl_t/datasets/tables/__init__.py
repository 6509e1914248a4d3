"""Tables that hold captions and labels: CSV, JSON, parquet, and the columns that are looked for in them."""
