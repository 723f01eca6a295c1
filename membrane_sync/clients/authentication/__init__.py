"""Authentication carried out: credentials onto requests here, credentials got in `access.py`."""

from membrane_sync.clients.authentication.flow import auth_flow

__all__ = ["auth_flow"]
