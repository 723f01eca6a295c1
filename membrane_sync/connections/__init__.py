"""Connecting accounts and keeping them connected: authorization, credentials, their status."""
