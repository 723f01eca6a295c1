"""`/_control/…`: the simulator's strings, for other processes; no credentials, loopback only."""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Any

from pydantic import ValidationError
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route

from membrane_sync.testing.simulator.limits import Meter
from membrane_sync.testing.simulator.simulator import Simulator
from membrane_sync.testing.simulator.switches import Faults, Hooks, Limits
from membrane_sync.testing.simulator.traffic import Dice

Handler = Callable[[Simulator, dict[str, Any]], Any]


def control_routes(simulator: Simulator) -> list[Route]:
    """A route for each string: GET to look, POST with a JSON object to pull."""
    looks = [Route(f"/{name}", _endpoint(simulator, look)) for name, look in _LOOKS.items()]
    pulls = [
        Route(f"/{name}", _endpoint(simulator, pull), methods=["POST"])
        for name, pull in _PULLS.items()
    ]
    return [*looks, *pulls]


def _endpoint(simulator: Simulator, handler: Handler) -> Callable[[Request], Awaitable[Response]]:
    async def endpoint(request: Request) -> Response:
        given: dict[str, Any] = dict(request.query_params)
        if request.method == "POST":
            given |= json.loads(await request.body() or b"{}")
        try:
            with simulator.lock:
                return JSONResponse(handler(simulator, given))
        except (KeyError, TypeError, ValueError, ValidationError) as error:
            return JSONResponse({"error": str(error)}, status_code=400)

    return endpoint


def _state(simulator: Simulator, _: dict[str, Any]) -> Any:
    return {
        "now": simulator.now,
        "requests": simulator.log.count,
        "statuses": {str(k): v for k, v in simulator.log.statuses().items()},
        "refreshes": simulator.gate.refreshes,
        "reuses": simulator.gate.reuses,
        "collections": {key: len(table.present) for key, table in simulator.tables.items()},
        "faults": simulator.dice.faults.model_dump(mode="json"),
        "limits": simulator.meter.limits.model_dump(mode="json"),
    }


def _log(simulator: Simulator, given: dict[str, Any]) -> Any:
    after = int(given.get("after", 0))
    return [asdict(entry) for entry in simulator.log.entries if entry.number > after]


def _truth(simulator: Simulator, given: dict[str, Any]) -> Any:
    return simulator.truth(given["collection"])


def _window(simulator: Simulator, given: dict[str, Any]) -> Any:
    return {"most": simulator.log.most_within(float(given["seconds"]), given.get("account"))}


def _write(verb: str) -> Handler:
    def write(simulator: Simulator, given: dict[str, Any]) -> Any:
        which = given.pop("count", None) or given.pop("ids", None) or given.pop("records", 1)
        return {"ids": getattr(simulator, verb)(given.pop("collection"), which, **given)}

    return write


def _tick(simulator: Simulator, given: dict[str, Any]) -> Any:
    simulator.tick(float(given["seconds"]))
    return {"now": simulator.now}


def _settle(simulator: Simulator, _: dict[str, Any]) -> Any:
    simulator.settle()
    return {"now": simulator.now}


def _faults(simulator: Simulator, given: dict[str, Any]) -> Any:
    """These switches, the others as they are."""
    merged = Faults.model_validate({**simulator.dice.faults.model_dump(), **given})
    simulator.dice = Dice(merged, simulator.seed)
    return merged.model_dump(mode="json")


def _limits(simulator: Simulator, given: dict[str, Any]) -> Any:
    """These switches, the others as they are; all windows start anew."""
    merged = Limits.model_validate({**simulator.meter.limits.model_dump(), **given})
    simulator.meter = Meter(merged)
    return merged.model_dump(mode="json")


def _webhooks(simulator: Simulator, _: dict[str, Any]) -> Any:
    webhooks = simulator.webhooks
    return {
        "subscriptions": [hook.shown() for hook in webhooks.hooks.values()],
        "waiting": webhooks.waiting,
        "answers": {str(status): count for status, count in webhooks.answers.items()},
        "switches": webhooks.switches.model_dump(mode="json"),
    }


def _hooks(simulator: Simulator, given: dict[str, Any]) -> Any:
    """These switches, the others as they are."""
    webhooks = simulator.webhooks
    webhooks.switches = Hooks.model_validate({**webhooks.switches.model_dump(), **given})
    return webhooks.switches.model_dump(mode="json")


def _expire_webhooks(simulator: Simulator, _: dict[str, Any]) -> Any:
    return {"ended": simulator.webhooks.expire()}


def _expire(simulator: Simulator, _: dict[str, Any]) -> Any:
    simulator.gate.expire()
    return {}


def _forget(simulator: Simulator, _: dict[str, Any]) -> Any:
    simulator.log.entries.clear()
    return {}


_LOOKS: dict[str, Handler] = {
    "state": _state,
    "log": _log,
    "truth": _truth,
    "window": _window,
    "webhooks": _webhooks,
}
_PULLS: dict[str, Handler] = {
    "create": _write("create"),
    "edit": _write("edit"),
    "delete": _write("delete"),
    "undelete": _write("undelete"),
    "tick": _tick,
    "settle": _settle,
    "faults": _faults,
    "limits": _limits,
    "hooks": _hooks,
    "expire_webhooks": _expire_webhooks,
    "expire_tokens": _expire,
    "forget_log": _forget,
}

STRINGS = (*_LOOKS, *_PULLS)
"""Every name below `/_control/`."""
