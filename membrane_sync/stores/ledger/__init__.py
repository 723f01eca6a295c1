"""The ledger: what all connections share, in SQLite or PostgreSQL through SQLAlchemy."""
