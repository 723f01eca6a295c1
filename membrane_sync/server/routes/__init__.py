"""The routes by what they're about; each gets a `Scope`, and nothing else to ask."""
