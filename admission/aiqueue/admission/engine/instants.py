"""Times as integers, and the age of work: they compare faster than datetimes."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from aiqueue.queue.records import Workload

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = 1_000_000  # in microseconds
_MICROSECOND = timedelta(microseconds=1)

Age = tuple[int, int, str, int]  # since when, first observed, uid, id of a workload: older sorts first


def micros(moment: datetime) -> int:
    """Microseconds since 1970 of an aware datetime."""
    return (moment - EPOCH) // _MICROSECOND


def moment(microseconds: int) -> datetime:
    """The inverse of `micros`."""
    return EPOCH + timedelta(microseconds=microseconds)


def age_of(workload: Workload) -> Age:
    """Its age: no two are equal."""
    return (micros(workload.since), micros(workload.observed_at), workload.uid, workload.id)
