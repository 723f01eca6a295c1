"""An app that speaks HTTP/2 alone, and breaks off as servers do: a thread for each connection."""

from __future__ import annotations

import socket
import ssl
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field

from h2.config import H2Configuration
from h2.connection import H2Connection
from h2.errors import ErrorCodes
from h2.events import DataReceived, StreamEnded, WindowUpdated
from h2.exceptions import ProtocolError
from h2.settings import SettingCodes


@dataclass
class Http2App:
    """Answers each request with `body`; `breaks` says how one is broken off, by its number from 1.

    `reset` resets the stream, `refuse` says that it wasn't looked at, `cut` closes the connection
    in the middle of the body, `goaway` says good-bye, and answers what came before no more.
    """

    context: ssl.SSLContext
    body: bytes = b'{"data": []}'
    breaks: dict[int, str] = field(default_factory=dict)
    most_streams: int = 100
    requests: int = 0
    connections: int = 0
    together: threading.Barrier | None = None
    """Answers wait for one another here, and those of one connection can't."""

    def __post_init__(self) -> None:
        self.context.set_alpn_protocols(["h2"])
        self._lock = threading.Lock()
        self._open: list[socket.socket] = []

    @contextmanager
    def serving(self) -> Iterator[str]:
        """The address at which it listens."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            listener = threading.Thread(target=self._listen, args=(server,), daemon=True)
            listener.start()
            try:
                yield f"https://127.0.0.1:{server.getsockname()[1]}"
            finally:
                server.shutdown(socket.SHUT_RDWR)
                for each in self._open:
                    with suppress(OSError):
                        each.shutdown(socket.SHUT_RDWR)

    def _listen(self, server: socket.socket) -> None:
        with suppress(OSError):
            while True:
                plain, _ = server.accept()
                threading.Thread(target=self._serve, args=(plain,), daemon=True).start()

    def _serve(self, plain: socket.socket) -> None:
        with suppress(OSError, ProtocolError), self.context.wrap_socket(plain, True) as wire:
            with self._lock:
                self.connections += 1
                self._open.append(wire)
            _Connection(self, wire).run()

    def number(self) -> int:
        """The number of the next request."""
        with self._lock:
            self.requests += 1
            return self.requests


class _Connection:
    def __init__(self, app: Http2App, wire: ssl.SSLSocket) -> None:
        self._app = app
        self._wire = wire
        self._h2 = H2Connection(H2Configuration(client_side=False))
        self._left: dict[int, bytes] = {}

    def run(self) -> None:
        self._h2.initiate_connection()
        self._h2.update_settings({SettingCodes.MAX_CONCURRENT_STREAMS: self._app.most_streams})
        self._flush()
        while received := self._wire.recv(65_535):
            for event in self._h2.receive_data(received):
                if isinstance(event, DataReceived):
                    self._h2.acknowledge_received_data(
                        event.flow_controlled_length, event.stream_id
                    )
                elif isinstance(event, StreamEnded):
                    self._answer(event.stream_id)
                elif isinstance(event, WindowUpdated):
                    self._send_on()
            self._flush()

    def _answer(self, stream: int) -> None:
        if self._app.together is not None:
            with suppress(threading.BrokenBarrierError):
                self._app.together.wait()
        how = self._app.breaks.get(self._app.number(), "")
        if how in ("reset", "refuse"):
            code = ErrorCodes.REFUSED_STREAM if how == "refuse" else ErrorCodes.INTERNAL_ERROR
            self._left[stream] = b""
            self._h2.reset_stream(stream, code)
            return
        if how == "goaway":
            self._h2.close_connection(last_stream_id=max(0, stream - 2))
            self._flush()
            self._wire.close()
            return
        body = self._app.body
        headers = [(":status", "200"), ("content-type", "application/json")]
        self._h2.send_headers(stream, [*headers, ("content-length", str(len(body)))])
        self._left[stream] = body
        if how == "cut":
            self._left[stream] = body[: len(body) // 9]
            self._send_on(ends=False)
            self._flush()
            self._wire.close()
            return
        self._send_on()

    def _send_on(self, *, ends: bool = True) -> None:
        for stream, left in list(self._left.items()):
            while left:
                room = min(
                    self._h2.local_flow_control_window(stream), self._h2.max_outbound_frame_size
                )
                if room <= 0:
                    break
                piece, left = left[:room], left[room:]
                self._h2.send_data(stream, piece, end_stream=ends and not left)
                self._left[stream] = left

    def _flush(self) -> None:
        self._wire.sendall(self._h2.data_to_send())
