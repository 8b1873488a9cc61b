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

#: A week in which tenants of Philly waited long while others left much unused.
FIRST, LAST = 82_000, 90_000


def starts(outcome: Outcome) -> dict[str, float]:
    return {each.job.name: each.runs[0].admitted_us / 1e6 for each in outcome.jobs}


def week_of_philly(tenants: Tenancy, queueing: Queueing) -> Outcome:
    table, machine = real_trace("philly")
    scenario = scenario_of(read_trace(table), read_cluster(machine), tenants=tenants, queueing=queueing)
    outcome = simulate(replace(scenario, jobs=scenario.jobs[FIRST:LAST]))
    assert {each.state for each in outcome.jobs} == {WorkloadState.FINISHED}
    return outcome


def mean_wait(outcome: Outcome) -> float:
    return figures_of(outcome).waits.mean()


def test_a_year_of_sdsc_is_first_come_first_served_to_the_second() -> None:
    table, machine = real_trace("sdsc_blue_2001")
    trace, cluster = read_trace(table), read_cluster(machine)
    outcome = simulate(scenario_of(trace, cluster, tenants=Tenancy.SINGLE, queueing=Queueing.STRICT))
    assert len(outcome.jobs) == 89_296
    assert starts(outcome) == textbook_starts(table_rows(table), cluster.total_gpus)
    assert mean_wait(outcome) == pytest.approx(83_053.389, abs=0.001)
    assert {run.ended_us == run.admitted_us + each.job.runtime_us for each in outcome.jobs for run in each.runs} == {True}


def test_tenants_of_philly_alone_are_each_first_come_first_served() -> None:
    table, machine = real_trace("philly")
    rows, expected = table_rows(table)[FIRST:LAST], dict[str, int]()
    for tenant, devices in read_cluster(machine).quotas.items():
        expected |= textbook_starts((row for row in rows if row["tenant"] == tenant), devices)
    assert starts(week_of_philly(Tenancy.ISOLATED, Queueing.STRICT)) == expected


def test_borrowing_shows_its_worth() -> None:
    alone = week_of_philly(Tenancy.ISOLATED, Queueing.BEST_EFFORT)
    lending = week_of_philly(Tenancy.COHORT, Queueing.BEST_EFFORT)
    assert mean_wait(alone) > 1_000
    assert mean_wait(lending) < 0.05 * mean_wait(alone)
    assert figures_of(lending).utilization()["nvidia.com/gpu"] >= figures_of(alone).utilization()["nvidia.com/gpu"]
