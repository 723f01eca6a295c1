"""The connector test kit: what a connector promises, held against a live or simulated app."""
