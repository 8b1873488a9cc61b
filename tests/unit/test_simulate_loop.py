"""Simulations small enough to work out by hand."""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from aiqueue.admission.engine import Engine, Eviction, Plan
from aiqueue.admission.simulate.loop import SimulationStalled, SimulationTooLong, simulate
from aiqueue.admission.simulate.outcome import Outcome
from aiqueue.admission.simulate.scenario import moment
from aiqueue.queue.words import RunOutcome
from fix_simulate import (
    GPU,
    SECOND,
    class_,
    flavor,
    history,
    job,
    of,
    one_tenant,
    played,
    queue,
    reading,
    states,
    tenant,
)


def waits(outcome: Outcome) -> dict[str, float]:
    """Seconds from arrival to the first admission."""
    return {each.job.name: (each.runs[0].admitted_us - each.job.arrival_us) / SECOND for each in outcome.jobs if each.runs}


def test_two_jobs_share_one_gpu() -> None:
    outcome = played(*one_tenant(), job("a"), job("b", arrival="10s"))
    assert history(outcome) == {"a": [(0, 300, "Finished")], "b": [(300, 600, "Finished")]}
    assert waits(outcome) == {"a": 0, "b": 290}
    assert states(outcome) == {"a": "Finished", "b": "Finished"}
    assert {each.tenant for each in outcome.jobs} == {"research"}


def test_a_run_says_what_it_holds() -> None:
    outcome = played(*one_tenant(16), job("a", 4, pods=3))
    (run,) = of(outcome, "a").runs
    assert (run.pods, run.flavors, run.amounts) == (3, {"main": {GPU: "h100"}}, {GPU: 12})


def test_jobs_of_one_arrival_queue_up_as_they_are_written() -> None:
    names = ["c", "a", "d", "b"]
    outcome = played(*one_tenant(), *(job(name, arrival="7s", runtime="1s") for name in names))
    assert history(outcome) == {name: [(7 + place, 8 + place, "Finished")] for place, name in enumerate(names)}


def test_the_earlier_arrival_goes_first_wherever_it_is_written() -> None:
    outcome = played(*one_tenant(), job("late", arrival="2s"), job("early", arrival="1s"), job("first", runtime="10s"))
    assert waits(outcome) == {"first": 0, "early": 9, "late": 308}


def test_a_gang_waits_for_all_of_its_room() -> None:
    outcome = played(*one_tenant(4), job("a", 3, runtime="60s"), job("gang", 2, pods=2, arrival="1s"))
    assert waits(outcome) == {"a": 0, "gang": 59}


def test_a_job_of_no_runtime_ends_when_it_starts() -> None:
    outcome = played(*one_tenant(), job("a", runtime="0s"), job("b", runtime="0s"), job("c", runtime="1s"))
    assert history(outcome) == {"a": [(0, 0, "Finished")], "b": [(0, 0, "Finished")], "c": [(0, 1, "Finished")]}


def test_a_job_may_fail_in_the_end() -> None:
    outcome = played(*one_tenant(), job("a", runtime="30s", fails="true"), job("b", runtime="30s"))
    assert history(outcome) == {"a": [(0, 30, "Failed")], "b": [(30, 60, "Finished")]}
    assert states(outcome) == {"a": "Failed", "b": "Finished"}


# Evictions.


@pytest.mark.parametrize(("checkpoint", "saved"), [(None, 0), ("60s", 120), ("130s", 130), ("45s", 90), ("10m", 0)])
def test_a_drain_loses_the_work_since_the_last_checkpoint(checkpoint: str | None, saved: int) -> None:
    given = {} if checkpoint is None else {"simulate.aiqueue.dev/checkpoint": checkpoint}
    outcome = played(
        *one_tenant(),
        class_(gracePeriod="30s"),
        tenant(at="100s", state="Drain"),
        tenant(at="200s"),
        job("a", runtime="5m", of_class="normal", annotations=given),
    )
    assert history(outcome) == {"a": [(0, 130, "Drained"), (200, 200 + 300 - saved, "Finished")]}
    first, second = of(outcome, "a").runs
    assert first.lost_us == (130 - saved) * SECOND
    assert first.reason == "tenant research is being drained"
    assert first.preempted_by == ""
    assert (second.lost_us, second.reason) == (0, "")


def test_the_users_own_checkpoint_counts_where_the_simulators_is_not_given() -> None:
    drain = [*one_tenant(), tenant(at="70s", state="Drain"), tenant(at="200s")]
    own = {"aiqueue.dev/checkpoint": "30s"}
    assert of(played(*drain, job("a", annotations=own)), "a").runs[0].lost_us == 10 * SECOND
    assert of(played(*drain, job("a", annotations=own, checkpoint="80s")), "a").runs[0].lost_us == 20 * SECOND


def test_a_run_that_ends_within_its_grace_is_finished() -> None:
    drain = [*one_tenant(), tenant(at="100s", state="Drain")]
    assert history(played(*drain, job("a", runtime="120s"))) == {"a": [(0, 120, "Finished")]}
    assert history(played(*drain, job("a", runtime="130s"))) == {"a": [(0, 130, "Finished")]}  # at the very deadline
    assert history(played(*drain, job("a", runtime="131s"))) == {"a": [(0, 130, "Drained")]}


def test_without_grace_a_drain_ends_runs_at_once_and_keeps_their_age() -> None:
    outcome = played(
        *one_tenant(2),
        class_(gracePeriod="0s"),
        queue(at="50s", state="Drain"),
        queue(at="60s"),
        tenant(gpus=1, at="60s"),
        job("older", runtime="80s", of_class="normal"),
        job("old", runtime="80s", of_class="normal", arrival="1s"),
        job("new", runtime="80s", of_class="normal", arrival="55s"),
    )
    assert history(outcome) == {
        "older": [(0, 50, "Drained"), (60, 140, "Finished")],
        "old": [(1, 50, "Drained"), (140, 220, "Finished")],
        "new": [(220, 300, "Finished")],
    }
    assert of(outcome, "old").runs[0].reason == "queue team-a/train is being drained"


def test_what_is_drained_for_good_stays_pending() -> None:
    outcome = played(*one_tenant(), tenant(at="10s", state="Drain"), job("a"))
    assert history(outcome) == {"a": [(0, 40, "Drained")]}
    assert states(outcome) == {"a": "Pending TenantClosed"}


# Edits.


def test_more_quota_lets_more_in_and_less_evicts_nobody() -> None:
    outcome = played(
        *one_tenant(1),
        tenant(gpus=2, at="60s"),
        tenant(gpus=0, at="90s"),
        tenant(gpus=1, at="1000s"),
        *(job(name) for name in "abc"),
    )
    assert history(outcome) == {
        "a": [(0, 300, "Finished")],
        "b": [(60, 360, "Finished")],
        "c": [(1000, 1300, "Finished")],
    }
    nominal = [each.tenants["research"].quotas[0].nominal for _, each in outcome.configurations]
    assert [at / SECOND for at, _ in outcome.configurations] == [0, 60, 90, 1000]
    assert nominal == [1, 2, 0, 1]


def test_all_edits_of_an_instant_apply_before_anything_is_decided() -> None:
    # The tenant that is opened first would let the job in, were the hold of its queue not part of the same instant.
    outcome = played(
        flavor(),
        tenant(state="Hold"),
        queue(),
        queue(at="20s", state="Hold"),
        tenant(at="20s"),
        queue(at="30s"),
        job("a"),
    )
    assert waits(outcome) == {"a": 30}


def test_at_one_instant_ends_come_before_edits_and_arrivals() -> None:
    # Room that is given back at 60 s is there for who arrives at 60 s, and the hold of that instant stops it.
    assert waits(played(*one_tenant(), job("a", runtime="60s"), job("b", arrival="60s"))) == {"a": 0, "b": 0}
    held = played(*one_tenant(), tenant(at="60s", state="Hold"), job("a", runtime="60s"), job("b", arrival="60s"))
    assert history(held) == {"a": [(0, 60, "Finished")], "b": []}


def test_objects_may_come_after_the_jobs_that_need_them() -> None:
    outcome = played(flavor(at="5s"), tenant(at="5s"), queue(at="9s"), job("a"), job("lost", queue="nowhere"))
    assert waits(outcome) == {"a": 9}
    assert states(outcome) == {"a": "Finished", "lost": "Pending QueueNotFound"}
    assert [at for at, _ in outcome.configurations] == [0, 5 * SECOND, 9 * SECOND]
    assert of(outcome, "lost").tenant == ""


# Why jobs wait in the end.


def test_who_can_never_start_is_left_pending_with_a_reason() -> None:
    outcome = played(
        *one_tenant(8),
        job("big", 9),
        job("odd", annotations={"aiqueue.dev/min-parallelism": "many"}),
        job("held", annotations={"aiqueue.dev/hold": "true"}),
        job("classy", of_class="none"),
        job("fine", 8),
    )
    assert states(outcome) == {
        "big": "Pending ExceedsCeiling",
        "odd": "Pending InvalidRequest",
        "held": "Held WorkloadHeld",
        "classy": "Pending ClassNotAllowed",
        "fine": "Finished",
    }
    assert "min-parallelism" in of(outcome, "odd").message
    assert of(outcome, "big").tenant == "research"


def test_a_closed_tenant_or_queue_keeps_its_jobs() -> None:
    held = [flavor(), tenant(state="Hold"), queue(), job("a")]
    assert states(played(*held)) == {"a": "Pending TenantClosed"}
    assert states(played(flavor(), tenant(), queue(state="Hold"), job("a"))) == {"a": "Pending QueueClosed"}


def test_until_cuts_runs_off_and_says_why_the_others_wait() -> None:
    jobs = [job("a"), job("b"), job("late", arrival="2m")]
    outcome = played(*one_tenant(), *jobs, until=100)
    assert history(outcome) == {"a": [(0, None, "Running")], "b": [], "late": []}
    assert states(outcome) == {"a": "Admitted", "b": "Pending WaitingForQuota", "late": "Pending PendingEvaluation"}
    assert of(outcome, "late").message == "it arrives at 2m, and the simulation ends at 1m40s"
    assert of(outcome, "late").tenant == "research"
    assert outcome.until_us == 100 * SECOND


def test_what_happens_at_until_still_happens() -> None:
    jobs = [job("a"), job("b")]
    assert history(played(*one_tenant(), *jobs, until=300)) == {"a": [(0, 300, "Finished")], "b": [(300, None, "Running")]}
    assert history(played(*one_tenant(), *jobs, until=299)) == {"a": [(0, None, "Running")], "b": []}


def test_a_run_that_was_given_notice_is_evicting() -> None:
    drain = [*one_tenant(), tenant(at="10s", state="Drain"), job("a")]
    assert states(played(*drain, until=39)) == {"a": "Evicting"}
    assert states(played(*drain, until=40)) == {"a": "Pending TenantClosed"}


def test_nothing_to_do_is_done_at_once() -> None:
    assert played().jobs == []
    assert played(job("a"), until=0).jobs[0].reason == "QueueNotFound"


# The rules of the engine, seen in a simulation.


def test_borrowing() -> None:
    patient: dict[str, Any] = {"parent": "lab", "preemption": {"reclaim": "Never"}}
    family = [flavor(), tenant("lab", None), tenant("one", 2, **patient), tenant("two", 2, **patient)]
    queues = [queue("one", "one"), queue("two", "two")]
    jobs = [job("big", 4, queue="one", runtime="60s"), job("own", 2, queue="two", arrival="10s", runtime="60s")]
    assert waits(played(*family, *queues, *jobs)) == {"big": 0, "own": 50}
    alone = [flavor(), tenant("one", 2), tenant("two", 2)]
    outcome = played(*alone, *queues, *jobs)
    assert states(outcome) == {"big": "Pending ExceedsCeiling", "own": "Finished"}
    assert waits(outcome) == {"own": 0}


def test_priority_and_queueing() -> None:
    def scene(queueing: str) -> dict[str, float]:
        return waits(
            played(
                *one_tenant(4, queueing=queueing, preemption={"withinTenant": "Never"}),
                class_("high", priority=10),
                job("first", 3, runtime="60s"),
                job("gang", 4, arrival="1s", runtime="60s"),
                job("small", 1, arrival="2s", runtime="10s"),
                job("high", 4, arrival="3s", runtime="5s", of_class="high"),
            )
        )

    assert scene("BestEffort") == {"first": 0, "gang": 64, "small": 0, "high": 57}
    assert scene("Strict") == {"first": 0, "gang": 64, "small": 123, "high": 57}


def test_a_starving_gang_is_passed_no_more() -> None:
    # Small jobs of 100 s arrive every 50 s and always leave one of two GPUs taken. From 10 min on the gang starves.
    small = [job(f"s{number:02}", runtime="100s", arrival=f"{50 * number}s") for number in range(40)]
    outcome = played(*one_tenant(2, starvationBound="10m"), *small, job("gang", 2, arrival="1s", runtime="10s"))
    # s11 starts at 550 s; s12, at 600 s, starts just before the bound of 601 s; s13 waits for the gang.
    assert waits(outcome)["gang"] == 700 - 1
    assert waits(outcome)["s12"] == 0
    assert waits(outcome)["s13"] == 710 - 650


def test_among_queues_of_a_tenant_the_one_that_used_less_goes_first() -> None:
    queues = [queue("x"), queue("y")]
    jobs = [
        job("x1", queue="x", runtime="100s"),
        job("x2", queue="x", arrival="10s", runtime="100s"),
        job("y1", queue="y", arrival="20s", runtime="100s"),
        job("x3", queue="x", arrival="30s", runtime="100s"),
        job("y2", queue="y", arrival="40s", runtime="100s"),
    ]
    by_usage = history(played(flavor(), tenant(), *queues, *jobs))
    order = sorted(by_usage, key=lambda name: by_usage[name][0])
    # y used nothing when x1 ends; then both used 100 s, x longer ago, which counts for less.
    assert order == ["x1", "y1", "x2", "y2", "x3"]
    by_age = history(played(flavor(), tenant(order=["submitted"]), *queues, *jobs))
    assert sorted(by_age, key=lambda name: by_age[name][0]) == ["x1", "x2", "y1", "x3", "y2"]


# The loop itself.


def test_small_bounds_of_a_plan_change_nothing() -> None:
    jobs = [
        job(f"j{number}", 1 + number % 4, runtime=f"{10 + number}s", arrival=f"{number // 3}s", of_class="hasty")
        for number in range(40)
    ]
    drain = [class_("hasty", gracePeriod="1s")]
    drain += [tenant(gpus=6, at="20s", state="Drain"), tenant(gpus=6, at="60s")]
    usual = played(*one_tenant(6), *drain, *jobs)
    tiny = played(*one_tenant(6), *drain, *jobs, engine=Engine(max_admissions=1, max_decisions=1, max_trials=1))
    assert history(tiny) == history(usual)
    assert sum(len(each) for each in history(usual).values()) > 40  # some were drained


def test_progress_is_told() -> None:
    told: list[tuple[int, int]] = []
    scenario = reading(*one_tenant(), job("a"), job("big", 9)).scenario
    simulate(scenario, progress=lambda ended, jobs: told.append((ended, jobs)))
    assert told == [(1, 2)]


class Evicting(Engine):
    """An engine that, at the first Plan after 10 s, gives run 1 five seconds, with this outcome, for workload 2."""

    def __init__(self, outcome: RunOutcome) -> None:
        super().__init__(tells=False)
        self.outcome: RunOutcome | None = outcome
        self.given: tuple[Plan, Plan] | None = None  # the Plan with the notice, and as it was decided

    def decide(self, now: datetime) -> Plan:
        plan = super().decide(now)
        if self.outcome is None or now < moment(10 * SECOND):
            return plan
        notice = Eviction(1, 1, 1, self.outcome, now + timedelta(seconds=5), "it must be", 2)
        self.outcome = None
        self.given = replace(plan, evictions=(notice,)), plan
        return self.given[0]

    def confirm(self, plan: Plan, run_ids: Sequence[int], opened_at: datetime | None = None) -> None:
        super().confirm(self.given[1] if self.given is not None and plan is self.given[0] else plan, run_ids, opened_at)


@pytest.mark.parametrize(
    ("outcome", "state", "again"),
    [
        (RunOutcome.PREEMPTED, "Finished", [(45, 335, "Finished")]),
        (RunOutcome.NOT_READY, "Finished", [(45, 335, "Finished")]),
        (RunOutcome.EXPIRED, "Expired", []),
        (RunOutcome.FAILED, "Failed", []),
        (RunOutcome.CANCELLED, "Held WorkloadHeld", []),
    ],
)
def test_whatever_ends_a_run_is_told_and_followed(outcome: RunOutcome, state: str, again: list[tuple[int, int, str]]) -> None:
    urgent = [class_("high", priority=5), job("b", arrival="10s", runtime="30s", of_class="high")]
    played_out = played(*one_tenant(), job("a", checkpoint="10s"), *urgent, engine=Evicting(outcome))
    assert history(played_out) == {"a": [(0, 15, str(outcome)), *again], "b": [(15, 45, "Finished")]}
    assert states(played_out) == {"a": state, "b": "Finished"}
    first = of(played_out, "a").runs[0]
    assert (first.preempted_by, first.reason) == ("team-a/b", "it must be")
    assert (first.noticed_us, first.evict_at_us) == (10 * SECOND, 15 * SECOND)
    assert first.lost_us == (5 * SECOND if again else 0)  # what nobody does again is not lost


class Restless(Engine):
    """An engine at fault: it asks to be asked again, after so many seconds, whatever came of it."""

    def __init__(self, seconds: float) -> None:
        super().__init__(tells=False)
        self.pause = timedelta(seconds=seconds)
        self.asked = 0

    def decide(self, now: datetime) -> Plan:
        self.asked += 1
        plan = super().decide(now)
        return replace(plan, wake_at=now + self.pause) if plan.empty else plan


def test_an_engine_that_never_rests_cannot_keep_a_simulation_going() -> None:
    jobs = [job("a"), job("b", 2), job("c", 2, arrival="1h")]
    restless = Restless(1)
    assert history(played(*one_tenant(), *jobs, engine=restless)) == history(played(*one_tenant(), *jobs))
    assert restless.asked < 100
    with pytest.raises(SimulationStalled, match="the engine finds no end at 5m: it asks"):
        played(*one_tenant(), *jobs, engine=Restless(0))


class Fickle(Engine):
    """An engine at fault: it puts out at once whom it admitted."""

    def __init__(self) -> None:
        super().__init__(tells=False)
        self.run = 0  # that is open
        self.given: tuple[Plan, Plan] | None = None  # as it was told, and as it was decided

    def decide(self, now: datetime) -> Plan:
        plan = super().decide(now)
        notices = [Eviction(self.run, 1, self.run, RunOutcome.PREEMPTED, now, "it must be", 1)] if self.run else []
        self.given = replace(plan, evictions=tuple(notices), wake_at=now if plan.admissions else None), plan
        return self.given[0]

    def confirm(self, plan: Plan, run_ids: Sequence[int], opened_at: datetime | None = None) -> None:
        assert self.given is not None
        assert plan is self.given[0]
        super().confirm(self.given[1], run_ids, opened_at)
        self.run = next(iter(run_ids), 0)


def test_an_engine_that_evicts_and_admits_for_ever_is_stopped() -> None:
    with pytest.raises(SimulationStalled, match="the engine finds no end at 0s: runs are evicted and admitted again"):
        played(*one_tenant(), job("a"), engine=Fickle())


def test_a_simulation_of_thousands_of_years_is_refused() -> None:
    jobs = [job(f"j{number}", runtime="36500d") for number in range(60)]
    with pytest.raises(SimulationTooLong, match=r"cut it off with --until"):
        played(*one_tenant(), *jobs)
    assert of(played(*one_tenant(), *jobs, until=10**9), "j0").state == "Admitted"


def test_a_simulation_makes_no_garbage_that_only_a_search_finds() -> None:
    def collected(jobs: int) -> int:
        documents = [job(f"j{number}", 1 + number % 3, arrival=f"{number}s", runtime="20s") for number in range(jobs)]
        scenario = reading(*one_tenant(4), *documents).scenario
        gc.collect()
        outcome = simulate(scenario)
        assert gc.isenabled()
        found = gc.collect()
        assert len(outcome.jobs) == jobs
        return found

    collected(10)  # whatever is made once is made now
    assert collected(200) - collected(20) < 100
