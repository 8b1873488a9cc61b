"""Traces of real clusters on the production engine: what a textbook says they do, they do, job by job."""

from __future__ import annotations

from dataclasses import replace

import pytest

from aiqueue.admission.simulate.figures import figures_of
from aiqueue.admission.simulate.loop import simulate
from aiqueue.admission.simulate.outcome import Outcome
from aiqueue.admission.simulate.tenancy import Tenancy, read_cluster, scenario_of
from aiqueue.admission.simulate.traces import read_trace
from aiqueue.queue.words import Queueing, WorkloadState
from fix_traces import real_trace, table_rows, textbook_starts

#: So many jobs of sdsc_blue_2001 are replayed here, and what its whole year waits on average by the book, in seconds.
MONTHS = 25_000
MEAN_WAIT = 83_053.389
#: Days in which tenants of Philly waited long while others left much unused.
FIRST, LAST = 64_000, 68_000


def starts(outcome: Outcome) -> dict[str, float]:
    return {each.job.name: each.runs[0].admitted_us / 1e6 for each in outcome.jobs}


def days_of_philly(tenants: Tenancy, queueing: Queueing) -> Outcome:
    table, machine = real_trace("philly")
    scenario = scenario_of(read_trace(table), read_cluster(machine), tenants=tenants, queueing=queueing)
    outcome = simulate(replace(scenario, jobs=scenario.jobs[FIRST:LAST]))
    assert {each.state for each in outcome.jobs} == {WorkloadState.FINISHED}
    return outcome


def mean_wait(outcome: Outcome) -> float:
    return figures_of(outcome).waits.mean()


def test_months_of_sdsc_are_first_come_first_served_to_the_second() -> None:
    """The whole year is replayed by `make bench-simulate`, which insists on the same mean wait as the textbook's here."""
    table, machine = real_trace("sdsc_blue_2001")
    trace, cluster, rows = read_trace(table), read_cluster(machine), table_rows(table)
    expected = textbook_starts(rows, cluster.total_gpus)
    assert len(expected) == 89_296
    assert sum(expected[row["job_id"]] - int(row["submit_s"]) for row in rows) / len(rows) == pytest.approx(
        MEAN_WAIT, abs=0.001
    )
    scenario = scenario_of(trace, cluster, tenants=Tenancy.SINGLE, queueing=Queueing.STRICT)
    outcome = simulate(replace(scenario, jobs=scenario.jobs[:MONTHS]))
    assert starts(outcome) == {row["job_id"]: expected[row["job_id"]] for row in rows[:MONTHS]}
    assert {run.ended_us == run.admitted_us + each.job.runtime_us for each in outcome.jobs for run in each.runs} == {True}
    assert figures_of(outcome).preemptions == 0  # one tenant, one class: nobody has a better claim than another


def test_tenants_of_philly_alone_are_each_first_come_first_served() -> None:
    table, machine = real_trace("philly")
    rows, expected = table_rows(table)[FIRST:LAST], dict[str, int]()
    for tenant, devices in read_cluster(machine).quotas.items():
        expected |= textbook_starts((row for row in rows if row["tenant"] == tenant), devices)
    assert starts(days_of_philly(Tenancy.ISOLATED, Queueing.STRICT)) == expected


def test_borrowing_shows_its_worth() -> None:
    alone = days_of_philly(Tenancy.ISOLATED, Queueing.BEST_EFFORT)
    lending = days_of_philly(Tenancy.COHORT, Queueing.BEST_EFFORT)
    assert mean_wait(alone) > 1_000
    assert mean_wait(lending) < 0.05 * mean_wait(alone)
    assert figures_of(alone).preemptions == 0
    assert figures_of(lending).utilization()["nvidia.com/gpu"] >= figures_of(alone).utilization()["nvidia.com/gpu"]
