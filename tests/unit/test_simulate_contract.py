"""The contract of a class, kept to the second: minimal runtime, grace, limits of time; drains and edits while room is made."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from aiqueue.admission.simulate.figures import figures_of
from aiqueue.admission.simulate.loop import simulate
from aiqueue.admission.simulate.outcome import Outcome
from aiqueue.admission.simulate.scenario import Scenario
from fix_simulate import (
    GPU,
    SECOND,
    Document,
    class_,
    flavor,
    history,
    job,
    of,
    one_tenant,
    played,
    queue,
    reading,
    room_made,
    states,
    tenant,
)


def two_classes(at: str | None = None, **of_low: Any) -> list[Document]:
    """Class high, without grace, and class low, with 30 s unless told otherwise."""
    return [class_("low", at=at, **{"gracePeriod": "30s", **of_low}), class_("high", priority=10, gracePeriod="0s")]


def low(name: str, gpus: int = 1, **given: Any) -> Document:
    """A job of class low."""
    return job(name, gpus, of_class="low", **given)


def high(name: str, gpus: int = 1, **given: Any) -> Document:
    """A job of class high that runs for 100 s unless told otherwise."""
    return job(name, gpus, of_class="high", **{"runtime": "100s", **given})


def notices(outcome: Outcome, name: str) -> list[tuple[float, float]]:
    """When each run of a job was told to end, and by when."""
    told = ((run.noticed_us, run.evict_at_us) for run in of(outcome, name).runs)
    return [(at / SECOND, by / SECOND) for at, by in told if at is not None and by is not None]


# Minimal runtime and grace.


@pytest.mark.parametrize(
    ("minimal", "grace", "asks", "told", "deadline"),
    [
        ("2m", "30s", 60, 90, 120),  # told so early that its grace ends with what it was promised
        ("2m", "30s", 90, 90, 120),
        ("2m", "30s", 91, 91, 121),
        ("2m", "0s", 60, 120, 120),
        ("10s", "30s", 5, 5, 35),  # its grace is longer than what it was promised
        ("2m", "2m", 60, 60, 180),
        ("2m", "3m", 0, 0, 180),
        ("0s", "30s", 0, 0, 30),
    ],
)
def test_a_run_is_left_alone_for_as_long_as_it_was_promised(
    minimal: str, grace: str, asks: int, told: int, deadline: int
) -> None:
    terms = two_classes(minRuntime=minimal, gracePeriod=grace)
    jobs = [low("low", runtime="1h"), high("high", arrival=f"{asks}s")]
    if asks == 0:  # of one instant the higher priority would go first, so the lower one has to be there before
        jobs[1] = high("high", arrival="1s")
        told, deadline = 1, deadline + 1
    outcome = played(*one_tenant(), *terms, *jobs)
    assert notices(outcome, "low") == [(told, deadline)]
    assert history(outcome) == {
        "low": [(0, deadline, "Preempted"), (deadline + 100, deadline + 100 + 3600, "Finished")],
        "high": [(deadline, deadline + 100, "Finished")],
    }


def test_each_run_is_promised_its_minimal_runtime_anew() -> None:
    jobs = [low("low", runtime="10m", checkpoint="60s"), high("one", arrival="10s"), high("two", arrival="230s")]
    outcome = played(*one_tenant(), *two_classes(minRuntime="2m"), *jobs)
    # The first run is told at 90 s; the second begins at 220 s and is told at 310 s. Each saves two minutes.
    assert notices(outcome, "low") == [(90, 120), (310, 340)]
    assert history(outcome)["low"] == [(0, 120, "Preempted"), (220, 340, "Preempted"), (440, 440 + 600 - 240, "Finished")]
    assert [run.lost_us for run in of(outcome, "low").runs] == [0, 0, 0]


def test_of_two_the_one_that_may_be_asked_already_goes() -> None:
    # `free` lost more work, and `fresh` is promised its two minutes until 170 s, so told at 140 s at the earliest.
    jobs = [low("free"), low("fresh", arrival="50s"), high("high", arrival="139s"), high("next", arrival="139s")]
    outcome = played(*one_tenant(2), *two_classes(minRuntime="2m"), *jobs)
    assert notices(outcome, "free") == [(139, 169)]
    assert notices(outcome, "fresh")[0] == (140, 170)


@pytest.mark.parametrize(
    ("runtime", "ends", "how"), [("80s", 80, "Finished"), ("90s", 90, "Finished"), ("91s", 90, "Preempted")]
)
def test_who_ends_within_his_grace_is_finished_and_the_room_is_the_claims_at_once(runtime: str, ends: int, how: str) -> None:
    outcome = played(*one_tenant(), *two_classes(), low("low", runtime=runtime), high("high", arrival="60s"))
    first = of(outcome, "low").runs[0]
    assert history(outcome)["low"][0] == (0, ends, how)
    assert history(outcome)["high"] == [(ends, ends + 100, "Finished")]
    assert first.evict_at_us == 90 * SECOND  # it was told all the same
    assert (first.reason == "", first.preempted_by == "", first.rule is None) == (how == "Finished",) * 3
    assert figures_of(outcome).preemptions == (how == "Preempted")


def test_a_claim_waits_for_the_last_of_those_who_make_room() -> None:
    terms = [*two_classes(), class_("slow", gracePeriod="50s")]
    jobs = [
        low("one", 2, runtime="80s"),
        job("two", 2, of_class="slow"),
        high("high", 4, arrival="60s"),
        low("small", 1, arrival="82s", runtime="1s"),  # two GPUs lie idle from 80 s on, and they are high's
    ]
    outcome = played(*one_tenant(4), *terms, *jobs)
    assert history(outcome) == {
        "one": [(0, 80, "Finished")],
        "two": [(0, 110, "Preempted"), (210, 510, "Finished")],
        "high": [(110, 210, "Finished")],
        "small": [(210, 211, "Finished")],
    }


def test_who_may_not_be_asked_any_more_is_not_asked() -> None:
    # At 50 s low comes to be above high; at 150 s below it again.
    edits = [class_("low", at="50s", priority=20), class_("low", at="150s", gracePeriod="5s")]
    jobs = [low("low"), high("high", arrival="60s")]
    outcome = played(*one_tenant(), *two_classes(), *edits, *jobs)
    assert notices(outcome, "low") == [(150, 155)]
    never = played(*one_tenant(), *two_classes(), class_("low", at="50s", preemptible=False), *jobs)
    assert history(never) == {"low": [(0, 300, "Finished")], "high": [(300, 400, "Finished")]}
    told = played(*one_tenant(), *two_classes(), class_("low", at="70s", preemptible=False), *jobs)
    assert history(told)["low"][0] == (0, 90, "Preempted")  # notice is not taken back


# What it costs.


def test_what_evictions_cost() -> None:
    jobs = [
        low("saves", 2, runtime="200s", checkpoint="40s"),
        low("loses", 1, runtime="150s", arrival="10s"),
        high("high", 3, arrival="60s", runtime="10s"),
    ]
    drain = [tenant(gpus=3, at="120s", state="Drain"), tenant(gpus=3, at="200s")]
    outcome = played(*one_tenant(3), *drain, *two_classes(), *jobs)
    # At 90 s both make room: `saves` has saved 80 of 90 s, `loses` nothing of 80 s. At 150 s, by the drain, of 50 s each 40 and
    # nothing are saved. Then 80 s of `saves` are left, and all 150 s of `loses`.
    assert history(outcome) == {
        "saves": [(0, 90, "Preempted"), (100, 150, "Drained"), (200, 280, "Finished")],
        "loses": [(10, 90, "Preempted"), (100, 150, "Drained"), (200, 350, "Finished")],
        "high": [(90, 100, "Finished")],
    }
    figures = figures_of(outcome)
    lost, gpu_seconds = 10 + 80 + 10 + 50, 2 * 10 + 80 + 2 * 10 + 50
    assert (figures.preemptions, figures.lost_us, figures.lost) == (2, lost * SECOND, {GPU: gpu_seconds * SECOND})
    held = 2 * (90 + 50 + 80) + (80 + 50 + 150) + 3 * 10
    assert figures.utilization() == {GPU: round(held / (3 * 350), 9)}


# Drains.


def test_who_drains_makes_room_for_a_claim_without_being_told_twice() -> None:
    tenants = [flavor(), tenant("lab", None), tenant("one", 4, parent="lab"), tenant("two", 4, parent="lab")]
    drain = [tenant("two", 4, parent="lab", at="60s", state="Drain")]
    queues = [queue("one", "one"), queue("two", "two")]
    jobs = [low("two", 4, queue="two"), low("one", 2, queue="one"), low("all", 8, queue="one", arrival="70s")]
    # At 70 s `one` cannot be asked by an equal of its own tenant; `all` waits for it until 300 s.
    outcome = played(*tenants, *drain, *queues, *two_classes(), *jobs)
    assert notices(outcome, "two") == [(60, 90)]
    assert history(outcome) == {
        "two": [(0, 90, "Drained")],
        "one": [(0, 300, "Finished")],
        "all": [(300, 600, "Finished")],
    }
    jobs[2] = high("all", 8, queue="one", arrival="70s")
    outcome = played(*tenants, *drain, *queues, *two_classes(), *jobs)
    assert (notices(outcome, "two"), notices(outcome, "one")) == ([(60, 90)], [(70, 100)])
    assert history(outcome)["two"] == [(0, 90, "Drained")]
    assert history(outcome)["all"] == [(100, 200, "Finished")]
    assert figures_of(outcome).preemptions == 1
    assert room_made(outcome) == {"one": [("all", "WithinTenant")]}


def test_a_drain_ends_runs_that_are_promised_time_and_runs_that_nobody_may_preempt() -> None:
    terms = [class_("low", minRuntime="10m", preemptible=False)]
    outcome = played(*one_tenant(), *terms, tenant(at="60s", state="Drain"), low("low"))
    assert history(outcome) == {"low": [(0, 90, "Drained")]}


def test_quota_that_was_lowered_evicts_nobody_until_its_owner_wants_it() -> None:
    def split(of_one: int, of_two: int, at: str | None = None) -> list[Document]:
        return [tenant("one", of_one, parent="lab", at=at), tenant("two", of_two, parent="lab", at=at)]

    scene = [flavor(), tenant("lab", None), *split(8, 0), *split(4, 4, at="50s"), queue("one", "one"), queue("two", "two")]
    jobs = [
        *(low(f"b{number}", 4, queue="one", arrival=f"{number}s") for number in range(2)),
        low("own", 2, queue="two", arrival="60s", runtime="100s"),
    ]
    outcome = played(*scene, *two_classes(), *jobs)
    assert history(outcome) == {
        "b0": [(0, 300, "Finished")],
        "b1": [(1, 90, "Preempted"), (190, 490, "Finished")],
        "own": [(90, 190, "Finished")],
    }
    assert room_made(outcome) == {"b1": [("own", "WithinNominal")]}


# Limits of time.


@pytest.mark.parametrize(
    ("of_class", "own", "ends", "told"),
    [
        ("60s", None, 60, 30),
        ("60s", "40s", 40, 10),
        ("60s", "2m", 60, 30),
        (None, "40s", 40, 10),
        ("20s", None, 20, 0),  # shorter than its grace: told when it starts
        ("100s", None, 100, None),
        ("99s", None, 99, 69),
    ],
)
def test_a_run_ends_when_its_time_is_up(of_class: str | None, own: str | None, ends: int, told: int | None) -> None:
    limit = {} if of_class is None else {"maxRuntime": of_class}
    notes = {} if own is None else {"aiqueue.dev/max-runtime": own}
    jobs = [low("long", runtime="100s", annotations=notes), low("next", runtime="20s", arrival="5s")]
    outcome = played(*one_tenant(), *two_classes(**limit), *jobs)
    # What needs exactly its time is finished, though it was told that its time ends.
    over = "Finished" if ends == 100 else "Expired"
    assert history(outcome) == {"long": [(0, ends, over)], "next": [(ends, ends + 20, "Finished")]}
    assert states(outcome) == {"long": over, "next": "Finished"}
    (run,) = of(outcome, "long").runs
    assert notices(outcome, "long") == ([(70, 100)] if told is None else [(told, ends)])
    assert (run.preempted_by, run.rule) == ("", None)
    assert bool(run.reason) == (over == "Expired")
    figures = figures_of(outcome)
    assert (figures.preemptions, figures.lost_us, figures.finished) == (0, 0, 1 + (over == "Finished"))


def test_limits_are_kept_though_nothing_waits_and_nothing_else_happens() -> None:
    limited = two_classes(maxRuntime="1h")
    outcome = played(*one_tenant(), *limited, low("long", runtime="2d"))
    assert history(outcome) == {"long": [(0, 3600, "Expired")]}
    assert notices(outcome, "long") == [(3570, 3600)]


def test_each_run_has_its_time_and_all_of_them_together_theirs() -> None:
    drain = [tenant(at="20s", state="Drain"), tenant(at="100s")]
    jobs = [low("long", runtime="10m")]
    terms = {"gracePeriod": "30s", "maxRuntime": "60s"}
    # 50 s are over when it is drained. The limit of a run begins anew; that of all runs leaves 40 s.
    assert history(played(*one_tenant(), *drain, *two_classes(**terms), *jobs)) == {
        "long": [(0, 50, "Drained"), (100, 160, "Expired")]
    }
    total = played(*one_tenant(), *drain, *two_classes(**terms, maxTotalRuntime="90s"), *jobs)
    assert history(total) == {"long": [(0, 50, "Drained"), (100, 140, "Expired")]}
    assert notices(total, "long") == [(20, 50), (110, 140)]
    used_up = played(*one_tenant(), *drain, *two_classes(maxTotalRuntime="50s"), *jobs)
    assert history(used_up) == {"long": [(0, 50, "Drained"), (100, 100, "Expired")]}


def test_runs_count_by_whole_seconds_begun() -> None:
    scenario = reading(
        *one_tenant(),
        *two_classes(gracePeriod="0s", maxTotalRuntime="20s"),
        low("long", runtime="1m"),
        high("high", arrival="10s", runtime="5s"),
    ).scenario
    first, second = scenario.jobs
    late = Scenario(scenario.edits, (first, replace(second, arrival_us=10_400_000)))
    # 10.4 s count as 11 of the 20.
    assert history(simulate(late))["long"] == [(0, 10.4, "Preempted"), (15.4, 24.4, "Expired")]


def test_who_is_told_that_his_time_ends_makes_room_then_and_is_not_preempted() -> None:
    jobs = [low("old", runtime="10m"), high("high", arrival="80s")]
    outcome = played(*one_tenant(), *two_classes(maxRuntime="100s"), *jobs)
    assert notices(outcome, "old") == [(70, 100)]  # 110 s, had it been told to make room
    assert history(outcome) == {"old": [(0, 100, "Expired")], "high": [(100, 200, "Finished")]}
    assert figures_of(outcome).preemptions == 0
    assert states(played(*one_tenant(), *two_classes(maxRuntime="100s"), *jobs, until=90)) == {
        "old": "Evicting",
        "high": "Pending WaitingForVictims",
    }


def test_a_limit_that_is_edited_holds_for_who_runs() -> None:
    edits = [class_("low", at="50s", maxRuntime="100s", gracePeriod="30s")]
    outcome = played(*one_tenant(), *two_classes(), *edits, low("long", runtime="10m"))
    assert (history(outcome)["long"], notices(outcome, "long")) == ([(0, 100, "Expired")], [(70, 100)])
    late = [class_("low", at="200s", maxRuntime="100s", gracePeriod="30s")]
    outcome = played(*one_tenant(), *two_classes(), *late, low("long", runtime="10m"))
    assert states(outcome) == {"long": "Expired"}
    assert history(outcome)["long"][0][1] in (200, 230)
    longer = [class_("low", at="50s", maxRuntime="5m", gracePeriod="30s")]
    outcome = played(*one_tenant(), *two_classes(maxRuntime="100s"), *longer, low("long", runtime="10m"))
    assert history(outcome)["long"] == [(0, 300, "Expired")]


# Part of the size.


def elastic(name: str, pods: int, least: int, **given: Any) -> Document:
    """A job of pods of one GPU each that makes do with fewer."""
    return job(name, pods=pods, annotations={"aiqueue.dev/min-parallelism": str(least)}, **given)


def sizes(outcome: Outcome, name: str) -> list[int]:
    """Pods of each run of a job."""
    return [run.pods for run in of(outcome, name).runs]


def test_a_gang_that_makes_do_with_less_takes_what_there_is_and_does_not_grow() -> None:
    jobs = [low("other", 3, runtime="100s"), elastic("gang", 8, 2, arrival="10s", runtime="100s")]
    outcome = played(*one_tenant(8), *two_classes(), *jobs)
    # 800 pod-seconds by five pods.
    assert history(outcome)["gang"] == [(10, 10 + 160, "Finished")]
    (run,) = of(outcome, "gang").runs
    assert (run.pods, run.amounts) == (5, {GPU: 5})
    assert figures_of(outcome).utilization() == {GPU: round((300 + 800) / (8 * 170), 9)}
    alone = played(*one_tenant(8), *two_classes(), jobs[1])
    assert (history(alone)["gang"], sizes(alone, "gang")) == ([(10, 110, "Finished")], [8])
    least = played(*one_tenant(8), *two_classes(), low("other", 7, runtime="100s"), jobs[1])
    assert (history(least)["gang"], sizes(least, "gang")) == ([(100, 200, "Finished")], [8])


def test_a_gang_larger_than_there_is_runs_at_what_there_is() -> None:
    outcome = played(*one_tenant(4), *two_classes(), elastic("gang", 8, 3, runtime="100s"), elastic("never", 8, 5))
    assert (history(outcome)["gang"], sizes(outcome, "gang")) == ([(0, 200, "Finished")], [4])
    assert states(outcome)["never"] == "Pending ExceedsCeiling"


def test_room_is_made_for_the_least_size_and_all_that_fits_then_is_taken() -> None:
    gang = elastic("gang", 4, 2, of_class="high", arrival="60s", runtime="100s")
    two = [low("one", 2), low("two", 2, arrival="1s")]
    outcome = played(*one_tenant(4), *two_classes(), *two, gang)
    assert room_made(outcome) == {"two": [("gang", "WithinTenant")]}
    assert (history(outcome)["gang"], sizes(outcome, "gang")) == ([(90, 290, "Finished")], [2])
    outcome = played(*one_tenant(4), *two_classes(), low("whole", 4), gang)
    assert (history(outcome)["gang"], sizes(outcome, "gang")) == ([(90, 190, "Finished")], [4])
    # What is free is taken rather than more made: two of four, and `one` goes on.
    outcome = played(*one_tenant(4), *two_classes(), low("one", 2), gang)
    assert (room_made(outcome), sizes(outcome, "gang")) == ({}, [2])


def test_a_run_at_another_size_goes_on_with_the_work_that_is_left() -> None:
    drain = [tenant(gpus=8, at="60s", state="Drain"), tenant(gpus=8, at="100s")]
    jobs = [low("other", 3, runtime="50s"), elastic("gang", 8, 2, of_class="low", runtime="100s", checkpoint="20s")]
    outcome = played(*one_tenant(8), *drain, *two_classes(), *jobs)
    # Five pods for 90 s, of which 80 are saved: 400 of 800 pod-seconds. The rest takes all eight 50 s.
    assert history(outcome)["gang"] == [(0, 90, "Drained"), (100, 150, "Finished")]
    assert sizes(outcome, "gang") == [5, 8]
    assert figures_of(outcome).lost == {GPU: 5 * 10 * SECOND}
