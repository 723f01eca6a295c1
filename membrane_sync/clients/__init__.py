"""HTTP: the external apps, and the product's own API."""
