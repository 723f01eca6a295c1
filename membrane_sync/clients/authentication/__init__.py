"""Authentication carried out: credentials onto requests here, credentials got in `access.py`."""

from membrane_sync.clients.authentication.flow import Renewable, auth_flow

__all__ = ["Renewable", "auth_flow"]
