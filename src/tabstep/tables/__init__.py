"""Parquet as typed rows: where files are, what their columns mean, the schema, the splits."""
