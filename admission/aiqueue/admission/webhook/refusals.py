"""The log of refusals: a line for each, as long as there are not too many."""

from __future__ import annotations

import time

import structlog

from aiqueue.admission.webhook.reviews import Answer, Review

_log = structlog.get_logger()
#: Lines at once, and how fast the right to more comes back.
_BURST = 50
_LINES_PER_SECOND = 10.0
_LONGEST_SENTENCE = 400
_LONGEST_NAME = 253


class RefusalLog:
    """Writes who was refused what and why. What there is no line for is counted, and the next line says how many."""

    def __init__(self) -> None:
        self._left = float(_BURST)
        self._counted_at = time.monotonic()
        self._unsaid = 0

    def add(self, review: Review, answer: Answer) -> None:
        """Write a line, or count."""
        now = time.monotonic()
        self._left = min(_BURST, self._left + (now - self._counted_at) * _LINES_PER_SECOND)
        self._counted_at = now
        if self._left < 1:
            self._unsaid += 1
            return
        self._left -= 1
        unsaid, self._unsaid = self._unsaid, 0
        _log.info(
            "refused",
            operation=review.operation[:_LONGEST_NAME],
            namespace=review.namespace[:_LONGEST_NAME],
            user=review.user[:_LONGEST_NAME],
            uid=review.uid[:_LONGEST_NAME],
            code=answer.code,
            why=answer.sentence[:_LONGEST_SENTENCE],
            **({"others_not_logged": unsaid} if unsaid else {}),
        )
