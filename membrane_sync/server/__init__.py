"""The HTTP API: connections, connection requests with their page, and calls through them."""
