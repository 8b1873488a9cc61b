"""The picture of a simulation: well formed, the same each time, and its areas are the figures."""

from __future__ import annotations

import re
from itertools import pairwise

import pytest

from aiqueue.admission.simulate.bins import Steps, binned
from aiqueue.admission.simulate.figures import figures_of
from aiqueue.admission.simulate.outcome import JobOutcome, Outcome
from aiqueue.admission.simulate.plot import STEPS, svg
from aiqueue.queue.words import RunOutcome
from fix_builders import GPU, make_configuration, make_tenant
from fix_outcomes import SECOND, a_job, a_run, an_outcome, elements_of


def of_tenants(count: int) -> Outcome:
    """Each tenant runs three jobs; each waits longer than the one before."""
    names = [f"tenant-{number}" for number in range(count)]
    tenants = [make_tenant(name, {"h100": {GPU: 8}}) for name in names]
    jobs = [
        a_job(f"{name}-{number}", 10 * number, a_run(40 * number + place, 40 * number + 50 + place, 2 + place % 3), tenant=name)
        for place, name in enumerate(names)
        for number in range(3)
    ]
    return an_outcome(jobs, make_configuration(tenants, []))


def texts(picture: str) -> list[str]:
    return [each.text for each in elements_of(picture) if each.tag == "text"]


@pytest.mark.parametrize("count", [1, 3, 8, 12])
def test_tenants_are_told_apart_where_they_are_few(count: int) -> None:
    picture = svg(of_tenants(count))
    shown = [text for text in texts(picture) if text.startswith("tenant-") or text == "others"]
    assert len(shown) == (0 if count == 1 else min(count, 8))
    assert ("others" in shown) == (count > 8)
    fills = {each.attributes["fill"] for each in elements_of(picture) if each.tag == "path" and "fill" in each.attributes}
    assert len(fills) == min(count, 8)


def test_titles_and_axes() -> None:
    said = texts(svg(of_tenants(2), title="A <title> & more"))
    assert said[0] == "A <title> & more"
    assert {"Utilization of nvidia.com/gpu", "Jobs that wait", "time since the start", "100%", "0%"} <= set(said)
    assert "Mean wait of the jobs that arrived then, by tenant" in said
    assert "120 s" in said
    many = texts(svg(of_tenants(6)))
    assert {"mean", "95th percentile", "Wait of the jobs that arrived then"} <= set(many)


def test_nothing_leaves_the_picture_and_every_number_is_one() -> None:
    for outcome in (of_tenants(3), of_tenants(9), an_outcome([], make_configuration())):
        elements = elements_of(svg(outcome))
        _, _, width, height = map(float, elements[-1].attributes["viewBox"].split())
        drawn = [each.attributes["d"] for each in elements if each.tag == "path"]
        assert drawn
        for path in drawn:
            assert re.fullmatch(r"([MLHVhv][\d.]+( [\d.]+)?)*Z?", path)
            for letter, first, second in re.findall(r"([MLHV])([\d.]+) ?([\d.]*)", path):
                assert float(first) <= (height if letter == "V" else width)
                assert not second or float(second) <= height


@pytest.mark.parametrize(
    "jobs",
    [
        [],
        [a_job("a", 5)],
        [a_job("a", 5, a_run(5, 5))],
        [a_job("a", 5, a_run(5, 6, 0))],
        [a_job("a", 0, a_run(0.000001, 0.000002))],
        [a_job("a", 0, a_run(10**9, 3 * 10**9, 10**12), tenant="")],
    ],
)
def test_odd_outcomes_are_drawn_too(jobs: list[JobOutcome]) -> None:
    assert elements_of(svg(an_outcome(jobs, make_configuration())))[-1].tag == "svg"


def test_the_same_outcome_gives_the_same_bytes_whatever_the_order_of_its_jobs() -> None:
    outcome = of_tenants(5)
    turned = Outcome(outcome.scenario, outcome.jobs[::-1], outcome.configurations)
    assert svg(outcome) == svg(of_tenants(5)) == svg(turned)


def test_steps_cut_time_without_gaps() -> None:
    steps = Steps(7, 1007, 240)
    edges = [steps.edge(index) for index in range(241)]
    assert (edges[0], edges[-1]) == (7, 1007)
    assert all(low < high for low, high in pairwise(edges))
    for began, ended in ((7, 1007), (8, 9), (500, 505), (0, 2000), (12, 12)):
        sums = [0] * 240
        steps.spread(sums, began, ended, 3)
        assert sum(sums) == 3 * max(0, min(ended, 1007) - max(began, 7))
        for index, total in enumerate(sums):
            assert total == 3 * max(0, min(ended, edges[index + 1]) - max(began, edges[index]))


def test_the_areas_are_the_figures() -> None:
    outcome = of_tenants(3)
    found = binned(outcome, GPU, {each.tenant: each.tenant for each in outcome.jobs}, STEPS)
    figures = figures_of(outcome)
    for name, of_one in figures.tenants.items():
        assert sum(found.held[name]) == of_one.held[GPU]
    assert sum(found.capacity) == figures.capacity[GPU]
    waited = sum(run.admitted_us - job.job.arrival_us for job in outcome.jobs for run in job.runs)
    assert sum(map(sum, found.waiting.values())) == waited
    assert sum(len(each) for values in found.waits.values() for each in values) == len(outcome.jobs)
    assert found.steps.end_us == 132 * SECOND


def test_work_that_was_lost_is_hatched() -> None:
    assert "url(#lost)" not in svg(of_tenants(2))
    evicted = a_run(10, 40, 4, outcome=RunOutcome.PREEMPTED, lost=20)
    jobs = [a_job("a", 0, a_run(0, 100, 4)), a_job("b", 0, evicted, a_run(60, 100, 4), tenant="t1")]
    tenants = [make_tenant(name, {"h100": {GPU: 4}}) for name in ("research", "t1")]
    outcome = an_outcome(jobs, make_configuration(tenants, []))
    found = binned(outcome, GPU, {"research": "research", "t1": "t1"}, STEPS)
    assert (sum(found.lost["research"]), sum(found.lost["t1"])) == (0, 4 * 20 * SECOND)
    assert [index for index, share in enumerate(found.wasted("t1")) if share] == list(range(48, 96))  # 20 s to 40 s of 100
    picture = svg(outcome)
    elements = elements_of(picture)
    (hatched,) = (each for each in elements if each.tag == "path" and each.attributes.get("fill") == "url(#lost)")
    assert hatched.attributes["d"].startswith("M72.0 ")
    assert "work lost by evictions" in texts(picture)
    (pattern,) = (each for each in elements if each.tag == "pattern")
    assert pattern.attributes["id"] == "lost"


def test_a_picture_ends_where_the_simulation_was_cut_off() -> None:
    outcome = an_outcome([a_job("a", 0, a_run(0, None)), a_job("b", 90)], make_configuration(), until=50)
    assert binned(outcome, GPU, {"research": "research"}, STEPS).steps.end_us == 50 * SECOND
