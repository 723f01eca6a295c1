"""The `membrane` command."""
