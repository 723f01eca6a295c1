"""The demo: real apps on loopback, two customers, and what a sync does for them."""
