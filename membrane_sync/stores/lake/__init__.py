"""The lake: a DuckDB file for each connection."""
