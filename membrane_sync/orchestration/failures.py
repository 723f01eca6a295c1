"""Our errors in Dagster's words: what may pass is tried again, what can't stops the run at once."""

import traceback
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import dagster as dg

from membrane_sync.errors import Fatal, MembraneError, RateLimited, Retryable

CANCELLED = "cancelled: what was stored stays, and the next run goes on from there"

RETRIES = 2
RETRY_SECONDS = 15.0
LONGEST_WAIT_SECONDS = 300.0
"""A run that waits holds one of the places there are for runs; the next one reads on anyway."""


@contextmanager
def failures(context: dg.AssetExecutionContext) -> Iterator[None]:
    """Retry a Retryable in the same run, and fail the run with the message of any other error.

    A run that's cancelled says what became of what it had.
    """
    try:
        yield
    except dg.DagsterExecutionInterruptedError:
        context.log.info(CANCELLED)
        raise
    except MembraneError as error:
        wait = _wait(error)
        if wait is not None and context.retry_number < RETRIES:
            context.log.warning(f"{error}\nTrying again in {wait:g} s.")
            raise dg.RetryRequested(max_retries=RETRIES, seconds_to_wait=wait) from error
        failure = dg.Failure(description=str(error), allow_retries=False)
        raise failure.with_traceback(error.__traceback__) from None


def _wait(error: MembraneError) -> float | None:
    """How many seconds later it may go well; None if that's never, or too late for this run."""
    if not isinstance(error, Retryable):
        return None
    asked = error.retry_after if isinstance(error, RateLimited) else None
    wait = max(asked or 0.0, RETRY_SECONDS)
    return wait if wait <= LONGEST_WAIT_SECONDS else None


@contextmanager
def hidden_values() -> Iterator[None]:
    """Turn an error that isn't ours into one that says where, and not what.

    Messages of databases and parsers quote the values they choke on.
    """
    try:
        yield
    except MembraneError:
        raise
    except Exception as error:
        fatal = Fatal(
            f"{type(error).__name__} in {_place(error)}; its message isn't shown here, since it "
            "may hold values of records",
            hint="read it with: membrane status",
        )
        raise fatal.with_traceback(error.__traceback__) from None


def _place(error: Exception) -> str:
    """The innermost line of ours that the error passed through."""
    frames = traceback.extract_tb(error.__traceback__)
    ours = [frame for frame in frames if "membrane_sync" in Path(frame.filename).parts]
    frame = (ours or frames)[-1]
    return f"{Path(frame.filename).name}:{frame.lineno}"
