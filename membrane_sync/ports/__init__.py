"""All that the core needs from outside.

`clients/` and `stores/` implement these; `bootstrap/` alone knows which stands behind which.
What events need is in `ports.events` and beside it.
"""

from __future__ import annotations

from membrane_sync.ports.app import Api
from membrane_sync.ports.authenticator import Authenticator, Authorization, DeviceCode, Issued
from membrane_sync.ports.connections import (
    ConnectionRecord,
    ConnectionRequest,
    ConnectionRequests,
    ConnectionStatus,
    RequestStatus,
)
from membrane_sync.ports.credentials import (
    Claim,
    CredentialStore,
    Kept,
    LiveCredentials,
    Pending,
    SecretStore,
    Vault,
)
from membrane_sync.ports.destination import Destination, Outcome, Owner
from membrane_sync.ports.due import Due, DueItem, Settled, Timetable
from membrane_sync.ports.lake import Lake, PageLog
from membrane_sync.ports.leases import Lease, Leases
from membrane_sync.ports.ledger import Ledger
from membrane_sync.ports.overrides import DEFAULT_INSTANCE, Override, Overrides
from membrane_sync.ports.quotas import Grant, Party, Priority, Quota, Quotas
from membrane_sync.ports.runs import RunRecord, Runs
from membrane_sync.ports.tenants import Tenant, TenantLedger, Tenants

__all__ = [
    "DEFAULT_INSTANCE",
    "Api",
    "Authenticator",
    "Authorization",
    "Claim",
    "ConnectionRecord",
    "ConnectionRequest",
    "ConnectionRequests",
    "ConnectionStatus",
    "CredentialStore",
    "Destination",
    "DeviceCode",
    "Due",
    "DueItem",
    "Grant",
    "Issued",
    "Kept",
    "Lake",
    "Lease",
    "Leases",
    "Ledger",
    "LiveCredentials",
    "Outcome",
    "Override",
    "Overrides",
    "Owner",
    "PageLog",
    "Party",
    "Pending",
    "Priority",
    "Quota",
    "Quotas",
    "RequestStatus",
    "RunRecord",
    "Runs",
    "SecretStore",
    "Settled",
    "Tenant",
    "TenantLedger",
    "Tenants",
    "Timetable",
    "Vault",
]
