"""Fixtures of the whole suite: real apps and servers on loopback."""

pytest_plugins = ["tests.fixtures"]
