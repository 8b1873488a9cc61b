"""How queue and cluster stood over time, against what is counted from the jobs directly."""

from __future__ import annotations

import csv
import random

import pytest

from aiqueue.admission.simulate.outcome import JobOutcome, Outcome
from aiqueue.admission.simulate.timeline import rows, samples, text, waits
from aiqueue.queue.words import RunOutcome, WorkloadState
from fix_builders import GPU, make_configuration, make_tenant
from fix_outcomes import SECOND, a_job, a_run, an_outcome

EIGHT = make_configuration([make_tenant(quotas={"h100": {GPU: 8}})], [])


def test_a_history_by_hand() -> None:
    evicted = a_run(2, 4, 8, outcome=RunOutcome.PREEMPTED, lost=2, told=3.5)
    jobs = [a_job("a", 0, a_run(0, 2, 2)), a_job("b", 1, evicted, a_run(6, 9, 4)), a_job("c", 3)]
    assert text(an_outcome(jobs, EIGHT)) == (
        f"time_seconds,queue_length,running_jobs,oldest_wait_seconds,"
        f"evicting_jobs,preemptions,used_{GPU},utilization_{GPU}\n"
        "0,0,1,0,0,0,2,0.25\n"
        "1,1,1,0,0,0,2,0.25\n"
        "2,0,1,0,0,0,8,1.0\n"
        "3,1,1,0,0,0,8,1.0\n"
        "3.5,1,1,0.5,1,0,8,1.0\n"
        "4,2,0,1,0,1,0,0.0\n"
        "6,1,1,3,0,1,4,0.5\n"
        "9,1,0,6,0,1,0,0.0\n"
    )


def test_held_jobs_and_jobs_that_never_arrived_do_not_wait() -> None:
    jobs = [a_job("a", 0, state=WorkloadState.HELD), a_job("b", 5), a_job("late", 50)]
    found = list(samples(an_outcome(jobs, EIGHT, until=20)))
    assert [(each.time_us // SECOND, each.waiting) for each in found] == [(5, 1)]


def test_the_capacity_is_the_one_in_force() -> None:
    more = make_configuration([make_tenant(quotas={"h100": {GPU: 16}})], [])
    jobs = [a_job("a", 0, a_run(0, 20, 4)), a_job("b", 10, a_run(10, 20, 4))]
    table = list(rows(an_outcome(jobs, [(0, EIGHT), (10, more)])))
    assert [row[-1] for row in table[1:]] == [0.5, 0.5, 0.0]
    unlimited = make_configuration([], [])
    assert [row[-1] for row in rows(an_outcome(jobs, unlimited))][1:] == ["", "", ""]


def some_outcome(seed: int) -> Outcome:
    chance = random.Random(seed)
    jobs: list[JobOutcome] = []
    for number in range(120):
        arrival = chance.randrange(200)
        first = arrival + chance.randrange(60)
        ended, told = first + chance.randrange(1, 40), first if chance.random() < 0.5 else None
        how = chance.choice((RunOutcome.PREEMPTED, RunOutcome.DRAINED))
        runs = [a_run(first, ended, chance.randrange(5), outcome=how, told=told)]
        if chance.random() < 0.7:
            again = (runs[0].ended_us or 0) // SECOND + chance.randrange(30)
            runs.append(a_run(again, again + 10, 3))
        jobs.append(a_job(f"j{number}", arrival, *runs[: chance.randrange(3)]))
    return an_outcome(jobs, EIGHT)


@pytest.mark.parametrize("seed", range(5))
def test_every_row_is_what_the_jobs_say(seed: int) -> None:
    outcome = some_outcome(seed)
    found = list(samples(outcome))
    times = [each.time_us for each in found]
    assert times == sorted(set(times))
    for each in found:
        now = each.time_us
        since = [
            began for job in outcome.jobs for began, ended in waits(job) if began <= now and (ended is None or ended > now)
        ]
        runs = [run for job in outcome.jobs for run in job.runs if run.admitted_us <= now < (run.ended_us or 0)]
        assert each.waiting == len(since)
        assert each.oldest_wait_us == (now - min(since) if since else 0)
        assert each.running == len(runs)
        assert each.used == {GPU: sum(run.amounts[GPU] for run in runs)}
        assert each.evicting == sum(run.noticed_us is not None for run in runs)
        over = [run for job in outcome.jobs for run in job.runs if (run.ended_us or 0) <= now]
        assert each.preemptions == sum(run.outcome is RunOutcome.PREEMPTED for run in over)


def test_more_changes_than_rows_are_thinned_to_rows_that_are_true() -> None:
    outcome = some_outcome(7)
    whole, thinned = list(samples(outcome)), list(samples(outcome, 20))
    assert 15 <= len(thinned) <= 20 < len(whole)
    assert [each for each in whole if each in thinned] == thinned
    assert thinned[-1] == whole[-1]


def test_the_text_is_csv_of_the_rows() -> None:
    outcome = some_outcome(1)
    assert [[str(cell) for cell in row] for row in rows(outcome)] == list(csv.reader(text(outcome).splitlines()))
