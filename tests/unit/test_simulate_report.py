"""The figures of a simulation by their definitions, and how they are told."""

from __future__ import annotations

import json
from fractions import Fraction
from io import StringIO
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from rich.console import Console

from aiqueue.admission.simulate import report
from aiqueue.admission.simulate.figures import Waits, figures_of
from aiqueue.admission.simulate.outcome import JobOutcome, Outcome
from aiqueue.queue.records import Quota
from aiqueue.queue.words import PreemptionRule, Reason, RunOutcome, WorkloadState
from fix_builders import GPU, make_configuration, make_tenant
from fix_outcomes import SECOND, a_job, a_run, an_outcome


def of_gpus(*amounts: int, **weights: Fraction) -> Any:
    """A configuration of tenants research, t1, t2... with so many GPUs."""
    names = ["research", *(f"t{number}" for number in range(1, len(amounts)))]
    tenants = [
        make_tenant(name, {"h100": {GPU: gpus}}, weight=weights.get(name, Fraction(1)))
        for name, gpus in zip(names, amounts, strict=True)
    ]
    return make_configuration(tenants, [])


def summary(outcome: Outcome) -> dict[str, Any]:
    found: dict[str, Any] = report.document(outcome)["summary"]
    return found


def printed(outcome: Outcome) -> str:
    console = Console(width=80, file=StringIO(), color_system=None)
    console.print(report.table(outcome))
    assert isinstance(console.file, StringIO)
    return console.file.getvalue()


def test_waits_completions_makespan_and_utilization() -> None:
    outcome = an_outcome([a_job("a", 10, a_run(10, 30, 4)), a_job("b", 12, a_run(30, 40.5, 2)), a_job("c", 13)], of_gpus(8))
    assert summary(outcome) == {
        "jobs": 3,
        "finished": 2,
        "makespan_seconds": 30.5,
        "mean_wait_seconds": 9,
        "p50_wait_seconds": 0,
        "p95_wait_seconds": 18,
        "p99_wait_seconds": 18,
        "mean_completion_seconds": 24.25,
        "utilization": {GPU: round((4 * 20 + 2 * 10.5) / (8 * 30.5), 9)},
        "preemptions": 0,
        "lost_work_seconds": 0,
        "lost_resource_seconds": {},
        "jain_fairness": 1.0,
    }


def test_a_job_waits_until_its_first_admission_and_completes_with_its_last_run() -> None:
    first = a_run(5, 15, outcome=RunOutcome.PREEMPTED, lost=10)
    found = summary(an_outcome([a_job("a", 0, first, a_run(50, 90))], of_gpus(1)))
    assert (found["mean_wait_seconds"], found["mean_completion_seconds"]) == (5, 90)
    assert found["utilization"] == {GPU: round(50 / 90, 9)}


def test_evictions_for_others_and_work_lost_by_any() -> None:
    jobs = [
        a_job("a", 0, a_run(0, 10, 4, outcome=RunOutcome.PREEMPTED, lost=2.5), a_run(10, 20, 4)),
        a_job("b", 0, a_run(0, 10, 8, outcome=RunOutcome.DRAINED, lost=10)),
    ]
    found = summary(an_outcome(jobs, of_gpus(16)))
    assert (found["preemptions"], found["lost_work_seconds"]) == (1, 12.5)
    assert found["lost_resource_seconds"] == {GPU: 90}


def test_cpu_is_lost_in_cpus() -> None:
    lost = a_run(0, 10, amounts={"cpu": 1500, "memory": 2048}, outcome=RunOutcome.PREEMPTED, lost=3)
    assert summary(an_outcome([a_job("a", 0, lost)], of_gpus(1)))["lost_resource_seconds"] == {"cpu": 4.5, "memory": 6144}


def test_runs_that_are_cut_off_count_as_ended_then() -> None:
    outcome = an_outcome([a_job("a", 0, a_run(0, None, 2)), a_job("b", 0, a_run(0, 5, 2))], of_gpus(4), until=20)
    found = summary(outcome)
    assert (found["finished"], found["makespan_seconds"], found["mean_completion_seconds"]) == (1, 20, 5)
    assert found["utilization"] == {GPU: round(50 / 80, 9)}


def test_the_capacity_of_the_cluster_goes_before_the_quotas() -> None:
    jobs = [a_job("a", 0, a_run(0, 10, 4))]
    assert summary(an_outcome(jobs, of_gpus(8), capacity={GPU: 16}))["utilization"] == {GPU: 0.25}
    assert summary(an_outcome(jobs, of_gpus(8), capacity={"other": 16}))["utilization"] == {GPU: 0.5}


def test_the_sum_of_nominal_quota_is_integrated_where_edits_move_it() -> None:
    jobs = [a_job("a", 10, a_run(10, 20, 4))]
    edits = [(0, of_gpus(1)), (5, of_gpus(8)), (15, of_gpus(4, 12)), (30, of_gpus(100))]
    assert summary(an_outcome(jobs, edits))["utilization"] == {GPU: round(40 / (5 * 8 + 5 * 16), 9)}
    assert summary(an_outcome(jobs, [(12, of_gpus(8))]))["utilization"] == {GPU: round(40 / (8 * 8), 9)}


def test_nothing_at_all() -> None:
    found = summary(an_outcome([], of_gpus(8)))
    assert found["utilization"] == {GPU: 0.0}
    assert {found[key] for key in found if key.endswith("_seconds") and key != "lost_resource_seconds"} == {0}
    assert "jobs" in printed(an_outcome([], of_gpus(8)))


def test_fairness_is_of_dominant_use_over_weight() -> None:
    jobs = [a_job("a", 0, a_run(0, 10, 4)), a_job("b", 0, a_run(0, 10, 2), tenant="t1")]
    assert summary(an_outcome(jobs, of_gpus(8, 8)))["jain_fairness"] == round(36 / (2 * 20), 9)
    assert summary(an_outcome(jobs, of_gpus(8, 8, research=Fraction(2))))["jain_fairness"] == 1.0
    # A tenant of weight 0, one without jobs and jobs of no tenant do not count; one whose jobs got nothing does.
    assert summary(an_outcome(jobs, of_gpus(8, 8, research=Fraction(0))))["jain_fairness"] == 1.0
    assert summary(an_outcome([*jobs[:1], a_job("c", 0, tenant="")], of_gpus(8, 8)))["jain_fairness"] == 1.0
    assert summary(an_outcome([*jobs[:1], a_job("c", 0, tenant="t1")], of_gpus(8, 8)))["jain_fairness"] == 0.5
    late = a_job("c", 100, tenant="t1")
    assert summary(an_outcome([*jobs[:1], late], of_gpus(8, 8), until=50))["jain_fairness"] == 1.0


def test_the_dominant_resource_is_the_one_of_which_most_was_held() -> None:
    quotas = (Quota("h100", GPU, 10), Quota("h100", "cpu", 100_000))
    tenants = [make_tenant("research", quotas), make_tenant("t1", {"h100": {GPU: 10}})]
    jobs = [
        a_job("a", 0, a_run(0, 10, amounts={GPU: 1, "cpu": 50_000})),
        a_job("b", 0, a_run(0, 10, amounts={GPU: 8, "cpu": 1_000}), tenant="t1"),
    ]
    first, second = Fraction(50_000, 100_000), Fraction(8, 20)
    expected = (first + second) ** 2 / (2 * (first**2 + second**2))
    assert summary(an_outcome(jobs, make_configuration(tenants, [])))["jain_fairness"] == pytest.approx(
        float(expected), abs=1e-9
    )


@given(st.lists(st.integers(0, 10**6), min_size=1, max_size=300), st.integers(1, 100))
def test_percentiles_are_the_least_value_that_so_many_do_not_exceed(values: list[int], percent: int) -> None:
    found = round(Waits(list(values)).percentile(percent) * SECOND)
    assert found in values
    assert 100 * sum(each <= found for each in values) >= percent * len(values)
    assert 100 * sum(each < found for each in values) < percent * len(values)


def test_a_job_as_a_document() -> None:
    rule = PreemptionRule.FINAL_SHARE
    first = a_run(5, 15.000001, 4, outcome=RunOutcome.PREEMPTED, lost=10, by="team-b/urgent", told=6.5, rule=rule)
    first.reason = "makes room"
    waits = a_job("a", 2.5, first, reason=Reason.WAITING_FOR_QUOTA, message="it lacks 3 GPUs")
    runs = a_job("b", 3, a_run(4, None), reason=Reason.BACKOFF, message="of old")
    document = report.document(an_outcome([waits, runs], of_gpus(8), until=20))
    assert document["jobs"] == [
        {
            "namespace": "team-a",
            "name": "a",
            "tenant": "research",
            "arrival_seconds": 2.5,
            "state": "Pending",
            "runs": [
                {
                    "admitted_seconds": 5,
                    "ended_seconds": 15.000001,
                    "outcome": "Preempted",
                    "reason": "makes room",
                    "preempted_by": "team-b/urgent",
                    "rule": "FinalShare",
                    "evict_at_seconds": 16.5,
                    "lost_seconds": 10,
                    "pods": 1,
                    "flavors": {"main": {GPU: "h100"}},
                }
            ],
            "reason": "WaitingForQuota",
            "message": "it lacks 3 GPUs",
        },
        {
            "namespace": "team-a",
            "name": "b",
            "tenant": "research",
            "arrival_seconds": 3,
            "state": "Admitted",
            "runs": [
                {
                    "admitted_seconds": 4,
                    "ended_seconds": None,
                    "outcome": "Running",
                    "reason": "",
                    "preempted_by": "",
                    "rule": "",
                    "evict_at_seconds": None,
                    "lost_seconds": 0,
                    "pods": 1,
                    "flavors": {"main": {GPU: "h100"}},
                }
            ],
            "reason": "",
            "message": "",
        },
    ]


@pytest.mark.parametrize("jobs", [[], [a_job("é\n", 0, a_run(0, 1))], [a_job("a", 0), a_job("b", 0, a_run(1, 2.5))]])
def test_the_text_is_the_document(jobs: list[JobOutcome]) -> None:
    outcome = an_outcome(jobs, of_gpus(8))
    assert json.loads(report.encoded(outcome)) == report.document(outcome)
    assert report.encoded(outcome).endswith(b"}\n")


def test_a_table_fits_80_columns_and_says_who_waits_for_what() -> None:
    long = "it waits because " + "of this and that " * 20
    jobs = [
        a_job("first", 0, a_run(30, 3690, 6)),
        a_job("other", 0, a_run(0, 3690, 2), tenant="t1"),
        *(a_job(f"w{number}", 1, reason=Reason.BEHIND_HEAD, message=long) for number in range(4)),
        *(a_job(f"x{number}", 1, reason=Reason.BACKOFF, message=f"until {number}") for number in range(20)),
        a_job("late", 9000, reason=Reason.PENDING_EVALUATION),
        a_job("[red]markup", 1, state=WorkloadState.HELD, tenant="t1"),
    ]
    text = printed(an_outcome(jobs, of_gpus(4, 4), until=4000))
    assert max(map(len, text.splitlines())) <= 80
    squeezed = " ".join(text.split())
    assert "jobs 28, of which 2 were admitted and 2 finished" in squeezed
    assert "wait mean 15s, p50 0s, p95 30s, p99 30s" in squeezed
    assert "research 26 1 30s 30s 74.8" in squeezed
    assert "t1 2 1 0s 0s 25.2" in squeezed
    assert "team-a/w0 and 3 more BehindHead it waits because" in squeezed
    assert "-o json has them all" in squeezed
    assert "jobs that had not arrived yet: 1" in squeezed


def test_names_are_no_markup() -> None:
    held = a_job("[red]markup", 1, state=WorkloadState.HELD, tenant="[bold]t")
    text = printed(an_outcome([held], of_gpus(4)))
    assert "team-a/[red]markup" in text
    assert "[bold]t" in text


def test_what_was_evicted_is_told() -> None:
    shares, own = (
        a_run(0, 10, 4, outcome=RunOutcome.PREEMPTED, lost=10, rule=rule)
        for rule in (PreemptionRule.FINAL_SHARE, PreemptionRule.WITHIN_TENANT)
    )
    drained = a_run(10, 80, outcome=RunOutcome.DRAINED, lost=65)
    jobs = [
        a_job("a", 0, shares, drained, a_run(80, 90)),
        a_job("b", 0, own),
        a_job("c", 0, a_run(5, 9, outcome=RunOutcome.EXPIRED), tenant="t1", state=WorkloadState.EXPIRED),
    ]
    text = printed(an_outcome(jobs, of_gpus(1, 1)))
    assert max(map(len, text.splitlines())) <= 80
    squeezed = " ".join(text.split())
    assert "preemptions 2 (WithinTenant 1, FinalShare 1) " in squeezed
    assert " other ends 1 Drained, 1 Expired " in squeezed
    assert " lost work 1m25s of runs, 2m25s of nvidia.com/gpu fairness" in squeezed
    assert "tenant jobs finished preempted mean wait" in squeezed
    assert "research 2 1 2 0s 0s" in squeezed
    quiet = " ".join(printed(an_outcome([a_job("a", 0, a_run(0, 10))], of_gpus(1))).split())
    assert " preemptions 0 fairness " in quiet
    assert "tenant jobs finished mean wait" in quiet


@pytest.mark.parametrize(
    ("duration", "said"),
    [(0, "0s"), (0.25, "0.25s"), (59.9, "59s"), (60, "1m00s"), (3599, "59m59s"), (7500, "2h05m"), (86_400 * 3 + 7200, "3d2h")],
)
def test_durations_as_people_read_them(duration: float, said: str) -> None:
    assert report.lasting(duration) == said


def test_figures_do_not_depend_on_the_order_of_the_jobs() -> None:
    jobs = [
        a_job(f"j{number}", number, a_run(number + 0.1, number + 7.3, number % 5), tenant=f"t{number % 3}")
        for number in range(40)
    ]
    one, other = (report.summary(figures_of(an_outcome(each, of_gpus(8, 8, 8)))) for each in (jobs, jobs[::-1]))
    assert one == other
