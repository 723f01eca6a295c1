"""What becomes of an answer: taken, passed over, or an error that says what to do."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from membrane_sync.clients.error_rules import is_good, replaced_body, rule_for
from membrane_sync.clients.live import Signer
from membrane_sync.clients.rate_headers import RateStatus, retry_after
from membrane_sync.elements.connector import Connector
from membrane_sync.elements.request import ErrorRule
from membrane_sync.errors import (
    AppUnavailable,
    Defunct,
    NotAuthorized,
    RateLimited,
    Unauthenticated,
    UnexpectedAnswer,
)
from membrane_sync.ports import ConnectionRecord
from membrane_sync.records import Answer, Call

LONGEST_HEEDED_SECONDS = 7 * 86_400.0
"""Who asks for more than a week means something else; a sync would never be tried again."""
UNSAID_SECONDS = 60.0
"""How long to wait where an app refuses for its rate limit and doesn't say how long (GitHub's)."""


class Judge:
    """Judges the answers of one connection's app; `hold` is called with how long it asks to wait.

    The `signer` knows the words without the connection's secrets.
    """

    def __init__(
        self,
        connector: Connector,
        connection: ConnectionRecord,
        signer: Signer,
        hold: Callable[[float], None],
    ) -> None:
        self._connector = connector
        self._connection = connection
        self._signer = signer
        self._hold = hold

    def judged(self, call: Call, answer: Answer, status: RateStatus) -> Answer:
        """The answer, if it's one to go on with; `status` is what its headers say of the quota.

        Raises Unauthenticated, NotAuthorized, Defunct, RateLimited, AppUnavailable or
        UnexpectedAnswer.
        """
        rules = (*call.errors, *self._connector.errors)
        rule = rule_for(answer, rules) if rules else None
        if rule is not None:
            return self._by_rule(rule, call, answer, status)
        if not is_good(call, answer):
            self._refuse(call, answer, status)
        return answer

    def _by_rule(self, rule: ErrorRule, call: Call, answer: Answer, status: RateStatus) -> Answer:
        if rule.action == "ignore":
            return replaced_body(rule, answer)
        if rule.action == "skip":
            return Answer(answer.status, answer.headers, None, answer.url, skipped=True)
        said = self._signer.words.about(call, rule.message or self._outcome(answer))
        if rule.action == "retry":
            raise self._limited(said, answer, status, unsaid=rule.after_seconds)
        if rule.action == "refresh":
            raise Unauthenticated(said, hint=self._connect_again())
        if rule.action == "defunct":
            raise Defunct(said, hint=self._connect_again())
        raise UnexpectedAnswer(said)

    def _refuse(self, call: Call, answer: Answer, status: RateStatus) -> None:
        said = self._signer.words.about(call, self._outcome(answer))
        if answer.status == 429:
            raise self._limited(said, answer, status)
        if answer.status == 403 and _is_rate_limit(answer, status):
            raise self._limited(said, answer, status, unsaid=UNSAID_SECONDS)
        if answer.status == 401:
            raise Unauthenticated(said, hint=self._connect_again())
        if answer.status == 403:
            raise NotAuthorized(said, hint=self._connect_again())
        if answer.status >= 500 or answer.status == 408:
            if retry_after(answer.headers):
                raise self._limited(said, answer, status)
            raise AppUnavailable(said)
        if answer.status == 304:
            hint = "304 means 'not modified', which wasn't asked: is there a cache on the way?"
            raise UnexpectedAnswer(said, hint=hint)
        if answer.status < 400:
            raise UnexpectedAnswer(said, hint="redirects aren't followed: use the address it names")
        raise UnexpectedAnswer(said, hint="compare the collection's YAML with the app's API")

    def _limited(
        self, said: str, answer: Answer, status: RateStatus, *, unsaid: float | None = None
    ) -> RateLimited:
        """The error for an app that asks to wait: as it says, else until its quota is refilled."""
        wait = retry_after(answer.headers)
        if wait is None and not status.remaining:
            wait = status.reset
        if wait is None:
            wait = unsaid
        elif wait > 0:
            wait = min(wait, LONGEST_HEEDED_SECONDS)
            self._hold(wait)
        return RateLimited(said, retry_after=wait)

    def _outcome(self, answer: Answer) -> str:
        return f"answered {answer.status}{self._signer.words.reason(answer.body)}"

    def _connect_again(self) -> str:
        mine = self._connection
        how = f"membrane connect {mine.integration} --tenant {mine.tenant} --key {mine.key}"
        return f"connect {mine.key!r} again: {how}"


def _is_rate_limit(answer: Answer, status: RateStatus) -> bool:
    """GitHub's 403: its quota is used up, or its secondary limit was met."""
    if status.remaining == 0 or "retry-after" in answer.headers:
        return True
    words = answer.body.get("message") if isinstance(answer.body, Mapping) else None
    return isinstance(words, str) and "rate limit" in words.lower()
