"""Webhooks over HTTP: read in bounds, kept in groups, answered once they are kept."""
