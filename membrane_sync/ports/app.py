"""The external app, as one connection reaches it."""

from __future__ import annotations

from typing import Protocol

from membrane_sync.records import Answer, Call


class Api(Protocol):
    """The external app, as one connection reaches it."""

    requests: int
    """How many requests were sent, repeats included."""

    skipped: int
    """How many answers were passed over by an error rule."""

    quota_left: int | None
    """How many requests the app allows yet, by its last word on it; None if it doesn't say."""

    def send(self, call: Call) -> Answer:
        """Send a call and return the app's 2xx answer; waits out rate limits and hiccups.

        A 304 comes back where the call has If-None-Match or If-Modified-Since. Raises
        NotAuthorized, Defunct, RateLimited, AppUnavailable or UnexpectedAnswer.
        """
        ...

    def close(self) -> None:
        """Give back the sockets."""
        ...
