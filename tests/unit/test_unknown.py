"""How many Jobs that nobody admitted may be stopped."""

from __future__ import annotations

from datetime import timedelta

from hypothesis import given
from hypothesis import strategies as st

from aiqueue.admission.controller.unknown import UnknownJobs
from fix_follow import AFTER


def test_so_many_in_a_minute_and_then_none_until_no_unknown_job_runs() -> None:
    unknown = UnknownJobs(2)
    assert [unknown.may_stop(f"uid-{n}", f"ns/job-{n}", AFTER) for n in range(3)] == [True, True, False]
    assert unknown.too_many
    later = AFTER + timedelta(minutes=5)
    assert not unknown.may_stop("uid-9", "ns/job-9", later)
    for number in (0, 1, 2):
        unknown.settled(f"uid-{number}")
    assert unknown.too_many
    unknown.settled("uid-9")
    assert not unknown.too_many
    assert unknown.may_stop("uid-10", "ns/job-10", later)


def test_a_job_seen_again_counts_once() -> None:
    unknown = UnknownJobs(1)
    assert [unknown.may_stop("uid-1", "ns/job-1", AFTER) for _ in range(3)] == [True] * 3
    assert not unknown.may_stop("uid-2", "ns/job-2", AFTER)
    assert not unknown.may_stop("uid-1", "ns/job-1", AFTER)


def test_none_may_be_stopped_where_none_is_allowed() -> None:
    unknown = UnknownJobs(0)
    assert not unknown.may_stop("uid-1", "ns/job-1", AFTER)
    assert unknown.too_many


def test_settling_what_is_not_known_is_nothing() -> None:
    UnknownJobs(1).settled("uid-1")


def test_the_sentence_names_a_few_and_says_what_to_do() -> None:
    unknown = UnknownJobs(0)
    for number in range(8):
        unknown.may_stop(f"uid-{number}", f"team-a/job-{number}", AFTER)
    sentence = unknown.sentence()
    assert "TooManyUnknownJobs: 8 labelled Jobs" in sentence
    assert "team-a/job-4" in sentence
    assert "team-a/job-5" not in sentence
    assert "restore the ledger" in sentence


@given(st.integers(0, 4), st.lists(st.tuples(st.integers(0, 15), st.booleans(), st.integers(0, 40))))
def test_no_minute_has_more_and_nothing_is_remembered_of_what_is_settled(
    per_minute: int, steps: list[tuple[int, bool, int]]
) -> None:
    unknown, now = UnknownJobs(per_minute), AFTER
    first_stops: list[float] = []
    running: set[int] = set()
    for job, stops, passes in steps:
        now += timedelta(seconds=passes)
        if stops:
            unknown.settled(str(job))
            running.discard(job)
        else:
            allowed = unknown.may_stop(str(job), f"ns/{job}", now)
            if allowed and job not in running:
                first_stops.append((now - AFTER).total_seconds())
            running.add(job)
        assert running or not unknown.too_many
        assert len(unknown._running) == len(running)
        assert len(unknown._stopped_at) <= per_minute
    for start in first_stops:
        assert sum(start <= each < start + 60 for each in first_stops) <= per_minute
