"""Every error membrane_sync raises, one tree, named by what the caller should do.

MembraneError
├── ProjectError          the declarations are wrong: mend the YAML named in it
│   └── TakesTooLong      a function of the project runs longer than it may
├── Retryable             try again later; nothing was lost
│   ├── AppUnavailable    the external app did not answer, or answered 5xx
│   │   └── LedgerUnavailable the ledger's database did not answer
│   ├── RateLimited       the external app asked us to wait
│   ├── LockTimeout       another process holds the connection or its lake file
│   ├── IncompleteScan    a full scan saw fewer records than the app says it has
│   └── Fenced            another process took the connection over; nothing was written
├── Rejected              one record can't be taken: it goes to the dead letters, the rest goes on
└── Fatal                 stop: trying again changes nothing
    ├── NotAuthorized     the app refused the credentials: connect again
    │   ├── Unauthenticated   the app takes the credentials no more, and no refresh helped
    │   └── Defunct       the account is closed, or the app was uninstalled: pause the connection
    ├── UnexpectedAnswer  the app answered something the declaration doesn't describe
    ├── InvalidInput      what was typed in doesn't fit: each field with what's wrong with it
    ├── NotFound          no such connection, element or table
    ├── NotConnected      the connection is declared but has no credentials
    ├── AnotherAccount    the connection belongs to another account of the app
    ├── NotReady          the connection is paused or archived, or has to be connected again
    ├── SecretError       a credential can't be read with the key at hand
    └── DestinationError  the product's database is missing, unreachable or of another shape
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass


class MembraneError(Exception):
    """Base of all; `code` is stable across versions, `hint` says what to do next."""

    code = "error"

    def __init__(self, message: str, *, hint: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.hint = hint

    def __str__(self) -> str:
        return f"{self.message}\n  → {self.hint}" if self.hint else self.message


@dataclass(frozen=True)
class Problem:
    """One thing wrong in the declarations, with the place a person should look at."""

    message: str
    file: str = ""
    line: int = 0
    element: str = ""
    severity: str = "error"
    """`error` stops everything; `warning` is declared but has no effect yet."""

    def __str__(self) -> str:
        place = f"{self.file}:{self.line}: " if self.file else ""
        return f"{place}{self.message}"


class ProjectError(MembraneError):
    """The project's declarations are wrong; `problems` holds all of them, not only the first."""

    code = "project"

    def __init__(self, problems: Sequence[Problem]) -> None:
        self.problems = list(problems)
        count = len(self.problems)
        listing = "\n".join(f"  {problem}" for problem in self.problems)
        super().__init__(f"{count} problem{'s' * (count != 1)} in the project:\n{listing}")


class TakesTooLong(ProjectError):
    """A function of a hooks.py runs longer than it may; the problem says where it was."""

    code = "takes_too_long"


class Retryable(MembraneError):
    """Try again later: nothing was lost."""

    code = "retryable"


class AppUnavailable(Retryable):
    """The external app did not answer, or answered with a server error."""

    code = "app_unavailable"


class LedgerUnavailable(AppUnavailable):
    """The ledger's database did not answer."""


class RateLimited(Retryable):
    """The external app asked us to wait; `retry_after` is in seconds, None if it didn't say."""

    code = "rate_limited"

    def __init__(self, message: str, *, retry_after: float | None = None, hint: str = "") -> None:
        super().__init__(message, hint=hint)
        self.retry_after = retry_after


class LockTimeout(Retryable):
    """Another process holds the lock; the message names it."""

    code = "lock_timeout"


class IncompleteScan(Retryable):
    """A full scan saw fewer records than the app says it has; nothing was deleted."""

    code = "incomplete_scan"


class Fenced(Retryable):
    """This process lost its lease to another one, which goes on where the lake stands."""

    code = "fenced"


class Rejected(MembraneError):
    """One record can't be taken; it belongs in the dead letters."""

    code = "rejected"


class Fatal(MembraneError):
    """Trying again changes nothing."""

    code = "fatal"


class NotAuthorized(Fatal):
    """The app refused the connection's credentials."""

    code = "not_authorized"


class Unauthenticated(NotAuthorized):
    """The app takes the credentials no more (401), refreshed ones included, if they can be."""


class Defunct(NotAuthorized):
    """The connection is dead for good: nothing but connecting anew can revive it."""

    code = "defunct"


class UnexpectedAnswer(Fatal):
    """The app answered something the declaration doesn't describe."""

    code = "unexpected_answer"


class InvalidInput(Fatal):
    """What was typed in doesn't fit its schema; `fields` says of each what's wrong with it."""

    code = "invalid_input"

    def __init__(self, fields: Mapping[str, str], *, hint: str = "") -> None:
        self.fields = dict(fields)
        super().__init__(
            "; ".join(f"{name!r} {words}" for name, words in self.fields.items()), hint=hint
        )


class NotFound(Fatal):
    """There is no such connection, element or table."""

    code = "not_found"


class NotConnected(Fatal):
    """The connection has no stored credentials."""

    code = "not_connected"


class AnotherAccount(Fatal):
    """The connection, with the records it has, belongs to another account of the app."""

    code = "another_account"


class NotReady(Fatal):
    """The connection's syncs don't run: it's paused or archived, or has to be connected again."""

    code = "not_ready"


class SecretError(Fatal):
    """A stored credential can't be decrypted with the key at hand."""

    code = "secret"


class DestinationError(Fatal):
    """The product's database can't be reached or has another shape than the data schema says."""

    code = "destination"
