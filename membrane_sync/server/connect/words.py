"""What the connect page says to users: what happened, and what they can do about it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Words:
    """A title, and what to do; `{app}` and `{product}` stand for their names."""

    title: str
    advice: str

    def about(self, app: str, product: str) -> Words:
        """The words with the names in them."""
        names = {"app": app, "product": product}
        return Words(self.title.format(**names), self.advice.format(**names))


PROBLEMS: Mapping[str, Words] = {
    "access_denied": Words(
        "{app} was not allowed to connect",
        "You, or {app}, did not give the permission. Try again and allow it, or cancel.",
    ),
    "not_authorized": Words(
        "{app} did not accept this",
        "Check what you entered, and try again.",
    ),
    "not_authorized_there": Words(
        "{app} did not accept the sign-in", "Try again, with another account if you have one."
    ),
    "another_account": Words(
        "This is another {app} account",
        "{product} has this connection with an account that it was made with. Sign in with that "
        "one; or cancel, and add another connection in {product}.",
    ),
    "defunct": Words(
        "{app} says that this account can't be used",
        "Sign in with another account, or ask {app}'s support what is wrong with it.",
    ),
    "app_unavailable": Words(
        "{app} did not answer",
        "Check the address if you entered one, or wait a minute; then try again.",
    ),
    "rate_limited": Words(
        "That was too often", "Wait until the number of attempts goes down, then try again."
    ),
    "retryable": Words("{app} can't do this just now", "Wait a minute, then try again."),
    "lock_timeout": Words(
        "Another attempt is still going on", "Wait a minute, then look whether it went well."
    ),
    "unexpected_answer": Words(
        "{app} answered something unexpected",
        "Check the address if you entered one. If it's right, ask {product}'s support.",
    ),
    "overdue": Words(
        "The code was not entered in time", "Get another one, and enter it while it's shown here."
    ),
    "state": Words(
        "This sign-in can't be used",
        "It was begun in another browser, is finished already, or took longer than ten minutes. "
        "Go back to {product} and begin again.",
    ),
    "csrf": Words(
        "This page is too old, or cookies are switched off",
        "Allow cookies for this page, and try again.",
    ),
}
"""By the code of an error; the page stays open for another attempt."""

OTHERWISE = Words(
    "Something is not set up right",
    "It isn't your fault, and trying again won't help. Ask {product}'s support.",
)

ENDED: Mapping[str, Words] = {
    "success": Words("{app} is connected", "You can close this window and go back to {product}."),
    "cancelled": Words("Nothing was connected", "You can close this window."),
    "expired": Words("This link has expired", "Go back to {product} and ask for a new one."),
    "revoked": Words(
        "This link was taken back",
        "{product} has withdrawn it. Go back there and ask for a new one.",
    ),
    "used": Words(
        "This link was used already", "Each link works once. Ask {product} for a new one."
    ),
}

UNKNOWN = Words(
    "There is no such link",
    "Check that the address is whole, or go back to where you got it and ask for a new one.",
)
FOREIGN = Words(
    "This page was opened from a place that isn't allowed",
    "If it's your own product: add its address to connect.redirects in the settings.",
)


def problem_of(code: str, app: str, product: str) -> Words:
    """The words for an error's code."""
    return PROBLEMS.get(code, OTHERWISE).about(app, product)
