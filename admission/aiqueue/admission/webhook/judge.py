"""Judges reviews: form first, then data from memory, and from the ledger only before a refusal."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Protocol

from aiqueue.admission.engine import Door
from aiqueue.admission.kube import names
from aiqueue.admission.webhook import hints, rules
from aiqueue.admission.webhook.reviews import FORBIDDEN, INVALID, Answer, Review, bounded
from aiqueue.admission.webhook.submitted import SubmittedJob
from aiqueue.queue.errors import LedgerError
from aiqueue.queue.records import Configuration, Decision
from aiqueue.queue.words import Reason

UNCONFIRMED_SECONDS = 5.0  # a ledger that has not answered for longer is said to be away
MAX_COMPLAINTS = 8
_MAX_NAME_IN_WARNING = 100  # characters, so that room is left for what the warning says


@dataclass(frozen=True, slots=True)
class Known:
    """What is known of the configuration.

    Attributes:
        configuration: as last read.
        door: made of it, once for each revision.
        unconfirmed_seconds: since the ledger last said that it is current.
    """

    configuration: Configuration
    door: Door
    unconfirmed_seconds: float


class ConfigurationSource(Protocol):
    """Where the judge learns the configuration."""

    def current(self) -> Known | None:
        """What is in memory, at once; None before anything was ever read."""

    def read_through(self) -> Known:
        """What the ledger says now. Blocks for about a second at most.

        Raises:
            LedgerError: the ledger does not answer.
        """


class Judge:
    """Answers reviews. May be asked by several threads at once."""

    def __init__(self, source: ConfigurationSource) -> None:
        self._source = source

    def quick(self, review: Review) -> Answer | None:
        """Answer from memory, without ever blocking; None where that would be a refusal on data, or nothing is known yet.

        Ask `thorough` then, in a thread that may wait.
        """
        job = review.job
        if job is None:
            return Answer(allowed=True, warnings=(review.unreadable,) if review.unreadable else ())
        answer = _on_form(review, job)
        if answer is not None:
            return answer
        known = self._source.current()
        if not rules.asks_anew(job, review.old):
            return _allowed(review, job, known)
        if known is None or _refusal(review, job, known.door) is not None:
            return None
        return _allowed(review, job, known)

    def thorough(self, review: Review) -> Answer:
        """Answer, having read the ledger where that is needed for a refusal. May block as long as `read_through` does."""
        answer = self.quick(review)
        if answer is not None or review.job is None:
            return answer or Answer(allowed=True)
        try:
            known = self._source.read_through()
        except LedgerError:
            return self._unchecked(review, review.job)
        refusal = _refusal(review, review.job, known.door)
        if refusal is None:
            return _allowed(review, review.job, known)
        close = hints.of_names(review.job, review.namespace, known.door)
        return Answer(
            allowed=False, sentence=_refused(review, review.job, refusal), code=FORBIDDEN, warnings=_warnings(review, close)
        )

    def _unchecked(self, review: Review, job: SubmittedJob) -> Answer:
        """The ledger is away: the Job is stored, and the controller says of it what could not be said now."""
        queue = bounded(job.observation.queue_name or "", 63)
        told = [
            f"is stored and waits: aiqueue's ledger could not be asked, so it is not known whether queue {queue} can take it"
        ]
        known = self._source.current()
        refusal = _refusal(review, job, known.door) if known is not None else None
        if refusal is not None:
            told.append(f"by what was last known it cannot start: {refusal.message}")
        return Answer(allowed=True, warnings=_warnings(review, [*told, *hints.of_keys(job, review.old)]))


def _on_form(review: Review, job: SubmittedJob) -> Answer | None:
    """The refusal for which no data are needed, or the leave for what is none of our business; None where data decide."""
    if job.observation.deleting:
        return Answer(allowed=True)
    running, form = rules.broken_while_running(job, review.old), rules.broken_form(job, review.old)
    if running or form:
        told = _joined((*running, *form))
        return Answer(allowed=False, sentence=f"{_named(review)}: {told}", code=FORBIDDEN if running else INVALID)
    return Answer(allowed=True) if job.labels.queue is None else None


def _refusal(review: Review, job: SubmittedJob, door: Door) -> Decision | None:
    """The verdict of the data: on the least size that the Job is content with."""
    seen = job.observation
    return door.refusal(review.namespace, seen.queue_name or "", seen.class_name, seen.pod_sets, shape=seen.shape)


def _refused(review: Review, job: SubmittedJob, refusal: Decision) -> str:
    (pod_set,) = job.observation.pod_sets
    partial = ""
    if pod_set.min_count is not None and refusal.reason is Reason.EXCEEDS_CEILING:
        partial = f"even with {names.MIN_PARALLELISM_ANNOTATION} {pod_set.min_count} it "
    return f"{_named(review)}: {partial}{refusal.message}; what would change it: {refusal.would_change}"


def _allowed(review: Review, job: SubmittedJob, known: Known | None) -> Answer:
    told: list[str] = []
    if known is not None:
        told.extend(hints.of_runtime(job, review.old, review.namespace, known.door))
        if rules.asks_anew(job, review.old):
            told.extend(hints.of_tenant(job, review.namespace, known.door))
            if known.unconfirmed_seconds > UNCONFIRMED_SECONDS:
                told.append(
                    f"aiqueue's ledger has not answered for {known.unconfirmed_seconds:.0f} s: queue, class and quota were checked "
                    "as they stood before"
                )
    return Answer(allowed=True, warnings=_warnings(review, [*told, *hints.of_keys(job, review.old)]))


def _warnings(review: Review, told: Iterable[str]) -> tuple[str, ...]:
    name = bounded(_named(review), _MAX_NAME_IN_WARNING)
    return tuple(f"{name}: {each}" for each in told)


def _named(review: Review) -> str:
    return f"Job {review.namespace}/{review.job.name if review.job is not None else ''}"


def _joined(sentences: Sequence[str]) -> str:
    more = len(sentences) - MAX_COMPLAINTS
    return "; ".join(sentences[:MAX_COMPLAINTS]) + (f"; and {more} more" if more > 0 else "")
