"""Say which name was probably meant, for every message about a name that nothing has."""

from __future__ import annotations

from collections.abc import Iterable
from difflib import get_close_matches


def guess(name: object, known: Iterable[str]) -> str | None:
    """The known name that comes nearest; None where none is near."""
    return next(iter(get_close_matches(str(name), sorted(known), 1)), None)


def nearest(name: object, known: Iterable[str], listed: str = "known are") -> str:
    """The known name that comes nearest as a question, or all of them where none is near.

    >>> nearest("contcts", ["contacts", "deals"])
    "did you mean 'contacts'?"
    >>> nearest("x", ["contacts", "deals"], "declared are")
    'declared are: contacts, deals'
    """
    names = sorted(known)
    near = guess(name, names)
    return f"did you mean {near!r}?" if near else f"{listed}: {', '.join(names) or 'none'}"
