"""Where things are kept: lakes, the ledger, the vault, and the product's own database."""
