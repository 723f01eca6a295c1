"""What the product is asked to tell of."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Protocol

from membrane_sync.ports import Tenant


@dataclass(frozen=True)
class ProductCall:
    """A request to the product's own API, for one tenant."""

    method: str
    url: str
    tenant: Tenant
    headers: Mapping[str, str] = field(default_factory=dict)
    query: Mapping[str, str] = field(default_factory=dict)
    body: Any = None


class ProductApi(Protocol):
    """The product's own API."""

    def send(self, call: ProductCall) -> Any:
        """The body of its 2xx answer, None if there's none.

        Raises AppUnavailable, NotFound for a 404 or 410, or UnexpectedAnswer.
        """
        ...


@dataclass(frozen=True)
class ProductSubscription:
    """That the product was asked to tell of a tenant's internal events of one type.

    `version` is of the request that it was asked by, empty before; `state` what it answered. What
    is to be done is due at `due_at`, in seconds since 1970, None if nothing is.
    """

    tenant: str
    event: str
    version: str = ""
    state: Any = None
    attempts: int = 0
    error: str = ""
    due_at: float | None = None


class ProductSubscriptions(Protocol):
    """What the product was asked to tell of."""

    def of_tenant(self, tenant: str) -> Sequence[ProductSubscription]:
        """All of one tenant, by event."""
        ...

    def due(self, limit: int) -> Sequence[str]:
        """Tenants for whom something is due."""
        ...

    def touch(self, tenant: str) -> None:
        """Let all of the tenant be due: something may not be needed any more."""
        ...

    def claim(self, tenant: str, event: str, seconds: float) -> ProductSubscription | None:
        """One of them, made if there's none, for us alone for so long; None if it's another's."""
        ...

    def settle(self, subscription: ProductSubscription) -> None:
        """Keep it, and let go of it."""
        ...

    def drop(self, tenant: str, event: str) -> None:
        """Forget it."""
        ...
