"""The sentences of preemption: why a run has to end, and why work waits while runs make room."""

from datetime import datetime, timedelta

from aiqueue.admission.engine import reasons
from aiqueue.queue.records import Allocation, Claim
from aiqueue.queue.words import PreemptionRule, Reason
from fix_builders import GPU, at, make_workload

CLAIMANT = make_workload(7)
CLAIM = Claim(7, "research", (Allocation("main", "h100", GPU, 4),), {"main": 1}, (1, 2), at(0))


def test_each_rule_says_its_own() -> None:
    assert {rule: reasons.makes_room(CLAIMANT, "research", rule, "product") for rule in PreemptionRule} == {
        PreemptionRule.WITHIN_TENANT: "makes room for team-a/job-7 of tenant research: its priority is higher",
        PreemptionRule.WITHIN_NOMINAL: (
            "makes room for team-a/job-7 of tenant research, which takes back its own nominal quota that tenant product borrows"
        ),
        PreemptionRule.FINAL_SHARE: (
            "makes room for team-a/job-7 of tenant research, whose share with it is no larger than the one tenant product keeps"
            " without this run"
        ),
        PreemptionRule.INITIAL_SHARE: (
            "makes room for team-a/job-7 of tenant research, whose share with it is smaller than the one tenant product has"
            " with this run"
        ),
    }


def test_an_older_one_of_the_same_priority() -> None:
    said = reasons.makes_room(CLAIMANT, "research", PreemptionRule.WITHIN_TENANT, "research", equal_priority=True)
    assert said == "makes room for team-a/job-7 of tenant research: it has the same priority and is older"


def test_time_is_up() -> None:
    assert reasons.time_is_up(5400) == "its time is up: this run may last no longer than 1h30m"


def test_who_waits_for_one_run() -> None:
    message, change = reasons.waiting_for_victims(CLAIM, [("team-b/x", at(3))])
    assert message == "waits for one run to make room: team-b/x until 12:00:03Z; past that its pods are still going"
    assert change == "that run over and its pods gone"


def test_who_waits_for_several_runs_names_who_goes_first() -> None:
    message, change = reasons.waiting_for_victims(CLAIM, [("team-b/y", at(60)), ("team-b/x", at(3))])
    assert message == (
        "waits for 2 runs to make room: team-b/x until 12:00:03Z, team-b/y until 12:01:00Z; past that their pods are still going"
    )
    assert change == "those runs over and their pods gone"


def test_of_many_runs_five_are_named_and_the_last_deadline() -> None:
    victims = [(f"team-b/x{number}", at(number)) for number in range(8)]
    message, _ = reasons.waiting_for_victims(CLAIM, victims)
    assert message.startswith("waits for 8 runs to make room: team-b/x0 until 12:00:00Z, ")
    assert message.count(" until ") == 6
    assert message.endswith(
        "team-b/x4 until 12:00:04Z and 3 more, the last until 12:00:07Z; past that their pods are still going"
    )


def test_five_are_all_named() -> None:
    message, _ = reasons.waiting_for_victims(CLAIM, [(f"team-b/x{number}", at(number)) for number in range(5)])
    assert message.endswith("team-b/x4 until 12:00:04Z; past that their pods are still going")


def test_deadlines_on_another_day_are_dated() -> None:
    """Of the day on which it was claimed, not of today: else the sentence would change at midnight."""
    tomorrow: datetime = at(0) + timedelta(days=1)
    message, _ = reasons.waiting_for_victims(CLAIM, [("team-b/x", tomorrow)])
    assert "team-b/x until 2026-01-02T12:00:00Z" in message


def test_when_all_are_gone() -> None:
    message, change = reasons.waiting_for_victims(CLAIM, [])
    assert (message, change) == ("the room it claims is vacated, and not wholly free for it yet", reasons.NEXT_LOOK)


def test_behind_a_claim_of_its_own_tenant_or_another() -> None:
    own = reasons.behind_claim("research", "s", CLAIMANT, "research")
    assert (own.reason, own.tenant, own.shape, own.workload_id) == (Reason.BEHIND_CLAIM, "research", "s", None)
    assert own.message == "would fit, but the room is being vacated for team-a/job-7, which claims it"
    assert own.would_change == "team-a/job-7 admitted or gone, or more room than it claims"
    assert own.details == {"claimant": "team-a/job-7", "claimant_id": 7}
    other = reasons.behind_claim("product", "s", CLAIMANT, "research")
    assert other.message == "would fit, but the room is being vacated for team-a/job-7 of tenant research, which claims it"
    assert other.details == {"claimant": "team-a/job-7", "claimant_id": 7, "claimant_tenant": "research"}
