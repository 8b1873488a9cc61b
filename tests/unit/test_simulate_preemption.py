"""Who has to make room for whom: scenes as an administrator and his users write them, worked through by hand.

Within a tenant first, then between tenants. Where nothing else is said grace is nought, so that who is told to end ends at once,
and jobs save nothing.
"""

from __future__ import annotations

from typing import Any

import pytest

from aiqueue.admission.simulate.figures import figures_of
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
    room_made,
    states,
    tenant,
)

WITHIN, NOMINAL, FINAL, INITIAL = "WithinTenant", "WithinNominal", "FinalShare", "InitialShare"


def classes(grace: str = "0s", **spec: Any) -> list[Document]:
    """Three classes, one above the other; grace and what else is given hold for all of them."""
    priorities = {"low": 0, "middle": 5, "high": 10}
    return [class_(name, priority=priority, gracePeriod=grace, **spec) for name, priority in priorities.items()]


def rules(within: str = "LowerPriority", reclaim: str = "Any") -> dict[str, Any]:
    """A tenant's preemption."""
    return {"preemption": {"withinTenant": within, "reclaim": reclaim}}


def low(name: str, gpus: int = 1, **given: Any) -> Document:
    """A job of class low."""
    return job(name, gpus, of_class="low", **given)


def high(name: str, gpus: int = 1, **given: Any) -> Document:
    """A job of class high."""
    return job(name, gpus, of_class="high", **given)


# Within a tenant.


def test_a_higher_priority_takes_the_room_and_gives_it_back() -> None:
    jobs = [low("low", 4, runtime="300s"), high("high", 4, arrival="60s", runtime="100s")]
    outcome = played(*one_tenant(4), *classes("30s"), *jobs)
    # Told at 60 s, gone at 90 s; then high runs for 100 s, and low does all its 300 s again.
    assert history(outcome) == {
        "low": [(0, 90, "Preempted"), (190, 490, "Finished")],
        "high": [(90, 190, "Finished")],
    }
    assert room_made(outcome) == {"low": [("high", WITHIN)]}
    first = of(outcome, "low").runs[0]
    assert (first.noticed_us, first.evict_at_us, first.lost_us) == (60 * SECOND, 90 * SECOND, 90 * SECOND)
    assert first.preempted_by == "team-a/high"
    assert "team-a/high" in first.reason
    figures = figures_of(outcome)
    assert (figures.preemptions, figures.lost_us, figures.lost) == (1, 90 * SECOND, {GPU: 4 * 90 * SECOND})
    assert figures.utilization() == {GPU: 1.0}  # what is worked twice is held twice


@pytest.mark.parametrize(("within", "newer"), [("LowerOrNewerEqualPriority", True), ("LowerPriority", False), ("Never", False)])
def test_of_equals_only_the_newer_one_makes_room_and_only_where_that_is_configured(within: str, newer: bool) -> None:
    jobs = [
        low("first", 2, runtime="100s"),
        low("gang", 4, arrival="10s", runtime="50s"),
        low("newer", 2, arrival="20s", runtime="200s"),  # passes the gang, which does not fit
    ]
    outcome = played(*one_tenant(4, **rules(within)), *classes(), *jobs)
    # `first` is older than the gang and stays. When it is over, at 100 s, `newer` alone is in the way.
    assert history(outcome) == {
        "first": [(0, 100, "Finished")],
        "gang": [(100, 150, "Finished")] if newer else [(220, 270, "Finished")],
        "newer": [(20, 100, "Preempted"), (150, 350, "Finished")] if newer else [(20, 220, "Finished")],
    }
    assert room_made(outcome) == ({"newer": [("gang", WITHIN)]} if newer else {})


def test_where_nobody_may_preempt_a_higher_priority_is_only_first_in_line() -> None:
    jobs = [low("low", 4), low("next", 4, arrival="1s"), high("high", 4, arrival="60s", runtime="100s")]
    outcome = played(*one_tenant(4, **rules("Never")), *classes(), *jobs)
    assert history(outcome) == {
        "low": [(0, 300, "Finished")],
        "high": [(300, 400, "Finished")],
        "next": [(400, 700, "Finished")],
    }


def test_who_is_not_preemptible_goes_on() -> None:
    fixed = class_("fixed", priority=0, preemptible=False)
    jobs = [job("fixed", 2, of_class="fixed", runtime="200s"), low("low", 2), high("high", 2, arrival="60s", runtime="100s")]
    outcome = played(*one_tenant(4), *classes(), fixed, *jobs)
    assert history(outcome)["fixed"] == [(0, 200, "Finished")]
    assert history(outcome)["low"] == [(0, 60, "Preempted"), (160, 460, "Finished")]


def test_nobody_is_evicted_in_vain() -> None:
    # To evict `low` alone would not do: it is left alone until `fixed` is over, at 200 s.
    fixed = class_("fixed", priority=0, preemptible=False)
    jobs = [job("fixed", 2, of_class="fixed", runtime="200s"), low("low", 2), high("high", 4, arrival="60s", runtime="50s")]
    outcome = played(*one_tenant(4), *classes("30s"), fixed, *jobs)
    assert history(outcome)["low"] == [(0, 230, "Preempted"), (280, 580, "Finished")]
    assert history(outcome)["high"] == [(230, 280, "Finished")]
    assert states(played(*one_tenant(4), *classes("30s"), fixed, *jobs, until=100))["high"] == "Pending WaitingForQuota"


@pytest.mark.parametrize(
    ("jobs", "chosen"),
    [
        # Lower priority goes before less work lost: 100 s of two GPUs against 40 s of two.
        ([low("a", 2), job("b", 2, of_class="middle", arrival="60s")], "a"),
        # Among equals less work lost: 100 s against 50 s.
        ([low("a", 2), low("b", 2, arrival="50s")], "b"),
        # Work is time times amount: 100 s of one GPU against 30 s of four.
        ([low("a", 1), low("b", 4, arrival="70s")], "a"),
        # What is saved is not lost: of 100 s 40 s since the last checkpoint, against 50 s.
        ([low("a", 2, checkpoint="60s"), low("b", 2, arrival="50s")], "a"),
        # It goes by what the job says of itself, not by what it really does.
        ([low("a", 2, checkpoint="45s", annotations={"aiqueue.dev/checkpoint": "60s"}), low("b", 2, arrival="62s")], "b"),
        # At their checkpoints both lose nothing: the one admitted last.
        ([low("a", 2, checkpoint="50s"), low("b", 2, checkpoint="50s", arrival="50s")], "b"),
    ],
)
def test_the_cheapest_makes_room(jobs: list[Document], chosen: str) -> None:
    gpus = sum(each["spec"]["template"]["spec"]["containers"][0]["resources"]["limits"][GPU] for each in jobs)
    outcome = played(*one_tenant(gpus), *classes(), *jobs, high("high", arrival="100s"))
    assert room_made(outcome) == {chosen: [("high", WITHIN)]}


def test_no_more_make_room_than_must() -> None:
    # `small` loses least and is chosen first; `large` has to go too, and then is enough alone.
    jobs = [low("large", 3), low("small", 1, arrival="90s"), high("high", 3, arrival="100s", runtime="50s")]
    outcome = played(*one_tenant(4), *classes(), *jobs)
    assert room_made(outcome) == {"large": [("high", WITHIN)]}
    assert history(outcome)["small"] == [(90, 390, "Finished")]


def test_several_make_room_at_one_instant_each_for_one() -> None:
    lows = [low(f"l{number}", arrival=f"{10 * number}s") for number in range(4)]
    highs = [high(name, 2, arrival="100s", runtime="50s") for name in ("h1", "h2")]
    outcome = played(*one_tenant(4), *classes(), *lows, *highs)
    # The youngest have least to lose, so they are the first one's.
    assert room_made(outcome) == {name: [("h2" if name < "l2" else "h1", WITHIN)] for name in ("l0", "l1", "l2", "l3")}
    assert history(outcome) == {
        **{f"l{number}": [(10 * number, 100, "Preempted"), (150, 450, "Finished")] for number in range(4)},
        "h1": [(100, 150, "Finished")],
        "h2": [(100, 150, "Finished")],
    }


def test_of_equal_victims_the_gang_that_was_put_out_is_older_than_who_came_later() -> None:
    jobs = [low("gang", 2, pods=2), high("high", 4, arrival="60s", runtime="100s"), low("later", 4, arrival="70s")]
    outcome = played(*one_tenant(4), *classes("30s"), *jobs)
    assert history(outcome) == {
        "gang": [(0, 90, "Preempted"), (190, 490, "Finished")],
        "high": [(90, 190, "Finished")],
        "later": [(490, 790, "Finished")],
    }


# Between tenants.


def lab(*members: Document, own: int = 0) -> list[Document]:
    """Tenants under one root, which has so much of its own; each is fed by the queue of its name."""
    names = [each["metadata"]["name"] for each in members]
    return [flavor(), tenant("lab", own), *members, *(queue(name, name) for name in dict.fromkeys(names))]


def member(name: str, gpus: int, parent: str = "lab", **spec: Any) -> Document:
    """A tenant of the lab."""
    return tenant(name, gpus, parent=parent, **spec)


@pytest.mark.parametrize(
    ("reclaim", "of_class", "taken"),
    [("Any", "low", True), ("LowerPriority", "low", False), ("LowerPriority", "high", True), ("Never", "high", False)],
)
def test_what_was_lent_comes_back_by_the_owners_rule(reclaim: str, of_class: str, taken: bool) -> None:
    tenants = lab(member("one", 4, **rules(reclaim="Never")), member("two", 4, **rules(reclaim=reclaim)))
    jobs = [low("big", 8, queue="one"), job("own", 4, queue="two", of_class=of_class, arrival="60s", runtime="100s")]
    outcome = played(*tenants, *classes("30s"), *jobs)
    assert history(outcome) == (
        {"big": [(0, 90, "Preempted"), (190, 490, "Finished")], "own": [(90, 190, "Finished")]}
        if taken
        else {"big": [(0, 300, "Finished")], "own": [(300, 400, "Finished")]}
    )
    assert room_made(outcome) == ({"big": [("own", NOMINAL)]} if taken else {})


def test_no_more_comes_back_than_is_asked_for_and_nothing_that_is_not_lent() -> None:
    borrowers = [low(f"b{number}", 2, queue="one", arrival=f"{10 * number}s") for number in range(4)]
    owners = [low(f"own{number}", 2, queue="two", arrival=f"{100 + 10 * number}s", runtime="1h") for number in range(3)]
    outcome = played(*lab(member("one", 4), member("two", 4)), *classes(), *borrowers, *owners)
    # One uses 8 of 8: b3 and b2, who lose least, go. Then nobody borrows. What b0 and b1 leave at 300 s and 310 s is one's own and
    # goes to b2 and b3; own2, which would borrow, has what b2 leaves at 600 s.
    assert room_made(outcome) == {"b3": [("own0", NOMINAL)], "b2": [("own1", NOMINAL)]}
    assert [history(outcome)[f"own{number}"][0][0] for number in range(3)] == [100, 110, 600]


def test_what_a_tenant_does_not_lend_it_need_not_take_back() -> None:
    two = member("two", 4, quotas=[{"flavor": "h100", "resources": [{"name": GPU, "nominal": 4, "lendingLimit": 2}]}])
    jobs = [
        *(low(f"b{number}", 2, queue="one", arrival=f"{number}s") for number in range(3)),
        low("own0", 2, queue="two", arrival="60s"),
        low("own1", 2, queue="two", arrival="70s"),
    ]
    outcome = played(*lab(member("one", 4), two), *classes(), *jobs)
    assert history(outcome)["own0"] == [(60, 360, "Finished")]
    assert history(outcome)["own1"] == [(70, 370, "Finished")]
    assert room_made(outcome) == {"b2": [("own1", NOMINAL)]}


def shared(one: dict[str, Any], two: dict[str, Any]) -> list[Document]:
    """One and two own 2 each, and the lab 8 which both may borrow."""
    return lab(member("one", 2, **one), member("two", 2, **two), own=8)


def asked_again_and_again(count: int) -> list[Document]:
    """One uses all 12 with jobs of 2 that run for ever, and two asks for 2 more every ten seconds from 100 s on."""
    borrowers = [low(f"b{number}", 2, queue="one", arrival=f"{number}s", runtime="10h") for number in range(6)]
    askers = [low(f"a{number}", 2, queue="two", arrival=f"{100 + 10 * number}s", runtime="10h") for number in range(count)]
    return [*borrowers, *askers]


@pytest.mark.parametrize(
    ("one", "two", "expected"),
    [
        # Borrowed of 12, with the run and without: a1 asks with 2 (one has 8, then 6), a2 with 4 (6, 4), a3 with 6 (4, 2).
        ({}, {}, [NOMINAL, FINAL, FINAL]),
        # One is worth twice as much: a1 asks with 2 (4, 3), a2 with 4 (3, 2).
        ({"weight": 2}, {}, [NOMINAL, FINAL]),
        # Four times as much: a1 asks with 2 and one has 2 with the run; equal shares are left as they are.
        ({"weight": 4}, {}, [NOMINAL]),
        # Two is worth twice as much: a1 with 1 (8, 6), a2 with 2 (6, 4), a3 with 3 (4, 2): more than 2 and less than 4. a4: 4 (2, 0).
        ({}, {"weight": 2}, [NOMINAL, FINAL, FINAL, INITIAL]),
        # Weight 0 may borrow what is left and has no claim to what others borrow.
        ({}, {"weight": 0}, [NOMINAL]),
        # And has to give back all that it borrows; the last of it leaves it with no share at all, so by what it had.
        ({"weight": 0}, {}, [NOMINAL, FINAL, FINAL, FINAL, INITIAL]),
    ],
)
def test_beyond_its_nominal_a_tenant_takes_until_the_shares_are_even(
    one: dict[str, Any], two: dict[str, Any], expected: list[str]
) -> None:
    outcome = played(*shared(one, two), *classes(), *asked_again_and_again(6), until=1000)
    victims = [f"b{5 - number}" for number in range(len(expected))]  # who came last loses least
    assert room_made(outcome) == {
        victim: [(f"a{number}", rule)] for number, (victim, rule) in enumerate(zip(victims, expected, strict=True))
    }
    assert [str(of(outcome, f"a{number}").state) for number in range(6)] == [
        "Admitted" if number < len(expected) else "Pending" for number in range(6)
    ]
    assert {str(of(outcome, victim).state) for victim in victims} == {"Pending"}  # and nobody takes it back


def test_who_has_little_left_without_its_run_gives_it_to_who_asks_for_less_than_it_had() -> None:
    # One gang borrows 10 of 12, and 0 without it. Two asks with 2: more than 0 and less than 10. Asking with 10 is not less.
    def asked(gpus: int) -> dict[str, list[tuple[str, str]]]:
        jobs = [low("gang", 12, queue="one"), low("ask", gpus, queue="two", arrival="60s")]
        return room_made(played(*shared({}, {}), *classes(), *jobs))

    assert asked(2) == {"gang": [("ask", NOMINAL)]}
    assert asked(4) == asked(11) == {"gang": [("ask", INITIAL)]}
    assert asked(12) == {}


def test_a_share_counts_only_what_is_borrowed_so_who_borrows_more_gives() -> None:
    # Left: 12 for one, which owns 8 of it and borrows 4; 6 for two, all of it borrowed. Three takes from two, though one uses more.
    tenants = lab(member("one", 8), member("two", 0), member("three", 4), own=6)
    jobs = [
        *(low(f"one{number}", 4, queue="one", arrival="10s", runtime="10h") for number in range(3)),
        *(low(f"two{number}", 3, queue="two", arrival=f"{number}s", runtime="10h") for number in range(2)),
        low("own", 3, queue="three", arrival="60s", runtime="10h"),
    ]
    outcome = played(*tenants, *classes(), *jobs, until=100)
    assert room_made(outcome) == {"two1": [("own", NOMINAL)]}


# Deeper trees.


def departments(north: int = 0, south: int = 0, own: int = 0) -> list[Document]:
    """Two departments of two teams each, under one root. A team owns 4; departments and root own what is said, besides."""
    inner = [tenant("org", own), tenant("north", north, parent="org"), tenant("south", south, parent="org")]
    teams = {"n1": "north", "n2": "north", "s1": "south", "s2": "south"}
    leaves = [member(name, 4, parent=parent) for name, parent in teams.items()]
    return [flavor(), *inner, *leaves, *(queue(name, name) for name in teams)]


def test_a_department_that_borrows_nothing_gives_nothing() -> None:
    # Both n1 and s1 borrow from the other team of their department. s2 takes from s1, who lost more work; north borrows nothing.
    jobs = [
        *(low(f"s{number}", 4, queue="s1", arrival=f"{number}s", runtime="1h") for number in range(2)),
        *(low(f"n{number}", 4, queue="n1", arrival="50s", runtime="1h") for number in range(2)),
        low("own", 4, queue="s2", arrival="60s"),
    ]
    assert room_made(played(*departments(), *classes(), *jobs)) == {"s1": [("own", NOMINAL)]}


def test_a_department_that_borrows_gives_back_across_the_root() -> None:
    # North uses 12 of its 8 with three jobs of n1, south what is left; s2 is owed 4 and takes it from n1.
    jobs = [
        *(low(f"n{number}", 4, queue="n1", arrival=f"{number}s", runtime="1h") for number in range(3)),
        low("s0", 4, queue="s1", runtime="1h"),
        low("own", 4, queue="s2", arrival="60s"),
        low("more", 4, queue="n2", arrival="70s"),
    ]
    outcome = played(*departments(), *classes(), *jobs)
    # `more` is owed 4 as well, and takes it from n1, within the department.
    assert room_made(outcome) == {"n2": [("own", NOMINAL)], "n1": [("more", NOMINAL)]}


def test_shares_are_compared_where_the_ways_part() -> None:
    # The teams own nothing here and the departments 4 each, the root 8. Both teams of north use 8: north borrows 12 of 16.
    inner = [tenant("org", 8), tenant("north", 4, parent="org"), tenant("south", 4, parent="org")]
    teams = {"n1": "north", "n2": "north", "s1": "south", "s2": "south"}
    tree = [flavor(), *inner, *(member(name, 0, parent=parent) for name, parent in teams.items())]
    jobs = [
        *(low(f"n{number}", 2, queue=f"n{1 + number % 2}", arrival=f"{number}s", runtime="10h") for number in range(8)),
        *(low(f"s{number}", 2, queue="s1", arrival=f"{100 + 10 * number}s", runtime="10h") for number in range(6)),
    ]
    outcome = played(*tree, *(queue(name, name) for name in teams), *classes(), *jobs, until=1000)
    # South asks with 0, 0, 2 and 4 borrowed of 16, and north has 10, 8, 6 and 4 left. With 6 against 2 south asks in vain,
    # though s1 alone uses no more than both teams of north together.
    assert {rule for rooms in room_made(outcome).values() for _, rule in rooms} == {FINAL}
    assert [str(of(outcome, f"s{number}").state) for number in range(6)] == ["Admitted"] * 4 + ["Pending"] * 2
    # Of north's two teams the one that uses more gives, in turns: four jobs are left, two of each.
    left = [each.job.queue_name for each in outcome.jobs if each.job.name[0] == "n" and str(each.state) == "Admitted"]
    assert sorted(left) == ["n1", "n1", "n2", "n2"]


# Claims.


def test_nobody_slips_into_room_that_is_being_made() -> None:
    jobs = [
        low("low", 3),
        high("high", 4, arrival="60s", runtime="100s"),
        low("small", 1, arrival="70s", runtime="10s"),  # there is a GPU free, and high counts on it
    ]
    scene = [*one_tenant(4), *classes("30s"), *jobs]
    assert history(played(*scene)) == {
        "low": [(0, 90, "Preempted"), (190, 490, "Finished")],
        "high": [(90, 190, "Finished")],
        "small": [(190, 200, "Finished")],
    }
    meanwhile = played(*scene, until=80)
    assert states(meanwhile) == {
        "low": "Evicting",
        "high": "Pending WaitingForVictims",
        "small": "Pending BehindClaim",
    }
    assert "team-a/low" in of(meanwhile, "high").message
    assert "team-a/high" in of(meanwhile, "small").message
    run = of(meanwhile, "low").runs[0]
    assert (run.preempted_by, run.evict_at_us, run.ended_us) == ("team-a/high", 90 * SECOND, None)


def test_tenants_that_are_owed_room_each_have_their_own_made() -> None:
    tenants = lab(member("one", 4), member("two", 4), member("three", 4))
    jobs = [
        *(low(f"b{number}", 4, queue="one", arrival=f"{number}s") for number in range(3)),
        low("own2", 4, queue="two", arrival="60s", runtime="100s"),
        low("own3", 4, queue="three", arrival="70s", runtime="100s"),
        low("late", 1, queue="one", arrival="71s", runtime="10s"),
    ]
    outcome = played(*tenants, *classes("30s"), *jobs)
    assert room_made(outcome) == {"b2": [("own2", NOMINAL)], "b1": [("own3", NOMINAL)]}
    assert history(outcome)["own2"] == [(90, 190, "Finished")]
    assert history(outcome)["own3"] == [(100, 200, "Finished")]
    assert history(outcome)["b1"][1][0] == 190  # the older of the two takes what is free first
    assert history(outcome)["late"][0][0] > 190


def test_room_that_is_being_made_is_not_taken_over_by_a_higher_priority() -> None:
    urgent = class_("urgent", priority=20, gracePeriod="0s")
    jobs = [
        low("low", 4),
        high("high", 4, arrival="60s", runtime="100s"),
        job("urgent", 4, of_class="urgent", arrival="70s", runtime="100s"),
    ]
    outcome = played(*one_tenant(4), *classes("30s"), urgent, *jobs)
    # high is let in at 90 s as it was promised, and then it has to make room itself.
    assert room_made(outcome) == {"low": [("high", WITHIN)], "high": [("urgent", WITHIN)]}
    assert history(outcome)["urgent"] == [(120, 220, "Finished")]


def test_room_whose_claim_fell_is_free_for_all() -> None:
    gates = [queue("express"), queue("express", at="70s", state="Hold"), queue("express", at="200s")]
    jobs = [low("low", 4), high("high", 4, queue="express", arrival="60s", runtime="100s")]
    outcome = played(*one_tenant(4), *gates, *classes("30s"), *jobs)
    # At 70 s nobody wants the room any more, and low, which was told to go, goes at 90 s, and has it back at once. At 200 s
    # high comes back and is owed it again.
    assert history(outcome) == {
        "low": [(0, 90, "Preempted"), (90, 230, "Preempted"), (330, 630, "Finished")],
        "high": [(230, 330, "Finished")],
    }


def test_the_head_of_a_strict_tenant_keeps_others_behind_it_while_room_is_made() -> None:
    jobs = [low("low", 2), high("high", 3, arrival="60s", runtime="100s"), low("small", 1, arrival="70s", runtime="10s")]
    outcome = played(*one_tenant(4, queueing="Strict"), *classes("30s"), *jobs)
    assert history(outcome)["high"] == [(90, 190, "Finished")]
    assert history(outcome)["low"] == [(0, 90, "Preempted"), (190, 490, "Finished")]
    assert history(outcome)["small"] == [(190, 200, "Finished")]  # low, as old as it was, is the head from 90 s on


def test_who_has_room_elsewhere_puts_nobody_out() -> None:
    quotas = [{"flavor": name, "resources": [{"name": GPU, "nominal": 4}]} for name in ("h100", "a100")]
    scene = [flavor(), flavor("a100"), tenant(quotas=quotas), queue(), *classes()]
    jobs = [low("low", 4), high("high", 4, arrival="60s"), high("next", 4, arrival="70s", runtime="100s")]
    outcome = played(*scene, *jobs)
    assert of(outcome, "high").runs[0].flavors == {"main": {GPU: "a100"}}
    assert room_made(outcome) == {"low": [("next", WITHIN)]}
    assert history(outcome)["next"] == [(70, 170, "Finished")]
