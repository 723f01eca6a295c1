"""Whether the server can do its work, for whoever watches over it."""

from __future__ import annotations

from typing import Literal

from fastapi import APIRouter, Request
from pydantic import BaseModel

router = APIRouter(tags=["health"])


class Health(BaseModel):
    """It's well; where it isn't, the answer is 503."""

    status: Literal["ok"] = "ok"


@router.get("/health")
def read_health(request: Request) -> Health:
    """Whether the server runs and reaches its ledger; open to everybody."""
    request.app.state.check_health()
    return Health()
