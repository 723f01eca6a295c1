"""Serves a simulator on loopback: in a thread for tests, or as a process of its own."""

from __future__ import annotations

import socket
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import uvicorn

from membrane_sync.testing.simulator.app import asgi
from membrane_sync.testing.simulator.sending import Sender
from membrane_sync.testing.simulator.simulator import Simulator

HOST = "127.0.0.1"


@contextmanager
def running(simulator: Simulator, port: int = 0, *, sending: bool = True) -> Iterator[str]:
    """Serve in a thread, on a free port unless one is given; gives the URL.

    Webhooks are sent as they're made, unless you want to do it: see `Webhooks.take`.
    """
    listening = bound(port)
    sender = Sender(simulator.webhooks)
    server = uvicorn.Server(_config(simulator))
    thread = threading.Thread(target=server.run, args=([listening],), daemon=True)
    thread.start()
    if sending:
        sender.start()
    try:
        yield address(listening)
    finally:
        if sending:
            sender.stop()
        server.should_exit = True
        server.force_exit = True
        thread.join(timeout=10)
        listening.close()


def serve(simulator: Simulator, listening: socket.socket) -> None:
    """Serve until the process is told to stop."""
    Sender(simulator.webhooks).start()
    uvicorn.Server(_config(simulator)).run([listening])


def bound(port: int = 0) -> socket.socket:
    """A socket on loopback that clients may already connect to; raises OSError if it's taken."""
    listening = socket.socket()
    listening.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    try:
        listening.bind((HOST, port))
    except OSError:
        listening.close()
        raise
    listening.listen(1024)
    return listening


def address(listening: socket.socket) -> str:
    """The URL of what is served on a socket."""
    return f"http://{HOST}:{listening.getsockname()[1]}"


def _config(simulator: Simulator) -> uvicorn.Config:
    # Critical only: an answer that is cut off on purpose is an error to uvicorn.
    return uvicorn.Config(
        asgi(simulator), log_level="critical", access_log=False, lifespan="off", backlog=1024
    )
