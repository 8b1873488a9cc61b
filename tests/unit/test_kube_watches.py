"""Events of a watch, line by line; errors by status."""

from __future__ import annotations

import pytest

from aiqueue.admission.kube import errors, objects
from aiqueue.admission.kube.watches import EventType, decode_event, error_of
from aiqueue.queue.errors import AiqueueError, NotFound

JOB = (
    b'{"metadata":{"name":"a","namespace":"d","uid":"u","resourceVersion":"9"},'
    b'"spec":{"template":{"spec":{"containers":[]}}},"status":{}}'
)


@pytest.mark.parametrize("kind", ["ADDED", "MODIFIED", "DELETED"])
def test_an_event_carries_its_job(kind: str) -> None:
    event = decode_event(b'{"type":"%s","object":%s}' % (kind.encode(), JOB))
    assert (event.type, event.resource_version) == (EventType(kind), "9")
    assert event.object is not None
    assert event.object.metadata.uid == "u"


def test_a_bookmark_says_only_how_far_the_watch_has_come() -> None:
    event = decode_event(b'{"type":"BOOKMARK","object":{"kind":"Job","metadata":{"resourceVersion":"12"},"spec":{}}}')
    assert (event.type, event.object, event.resource_version) == (EventType.BOOKMARK, None, "12")


def test_an_error_event_is_raised_as_its_status_says() -> None:
    gone = b'{"type":"ERROR","object":{"kind":"Status","code":410,"reason":"Expired","message":"too old resource version"}}'
    with pytest.raises(errors.Gone, match=r"watch of Jobs failed: too old resource version \(410 Expired\)") as caught:
        decode_event(gone)
    assert (caught.value.status, caught.value.reason) == (410, "Expired")
    with pytest.raises(errors.Unavailable):
        decode_event(b'{"type":"ERROR","object":{"code":504,"reason":"Timeout","message":"Too large resource version"}}')


@pytest.mark.parametrize(
    "line",
    [
        b"",
        b"not json",
        b"{}",
        b'{"type":"ADDED","object":{}}',
        b'{"type":"RENAMED","object":{}}',
        b'{"type":"ERROR","object":3}',
        b'{"type":"ADDED","object":{"kind":"Status","code":410}}',
        b'{"type":"ADDED","object":\xff}',
    ],
)
def test_what_is_no_event_says_so(line: bytes) -> None:
    with pytest.raises(errors.Unreadable):
        decode_event(line)


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (400, errors.Invalid),
        (401, errors.Unauthorized),
        (403, errors.Forbidden),
        (404, errors.NotFound),
        (409, errors.Conflict),
        (410, errors.Gone),
        (418, errors.KubeError),
        (422, errors.Invalid),
        (429, errors.TooManyRequests),
        (500, errors.Unavailable),
        (503, errors.Unavailable),
    ],
)
def test_errors_by_status(status: int, kind: type[errors.KubeError]) -> None:
    error = errors.of_status(status, message="no", reason="Because", doing="get of Job a/b", retry_after_seconds=2.0)
    assert type(error) is kind
    assert isinstance(error, AiqueueError)
    assert str(error) == f"get of Job a/b failed: no ({status} Because)"
    assert (error.status, error.reason, error.message, error.retry_after_seconds) == (status, "Because", "no", 2.0)


@pytest.mark.parametrize(("cause", "kind"), [("metadata.uid", errors.Conflict), ("spec.parallelism", errors.Invalid)])
def test_the_uid_of_another_object_is_a_conflict(cause: str, kind: type[errors.KubeError]) -> None:
    details = objects.StatusDetails(causes=(objects.StatusCause("spec.selector"), objects.StatusCause(cause)))
    status = objects.Status(code=422, reason="Invalid", message="no", details=details)
    assert type(error_of(status, doing="patch")) is kind


def test_not_found_is_that_of_the_ledger_too() -> None:
    assert issubclass(errors.NotFound, NotFound)
