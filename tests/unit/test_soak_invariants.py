"""What the soak's invariants say of histories that are made up: where a real cluster would be needed to come by them, see e2e/test_soak."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

from aiqueue.queue.records import Quota, Tenant
from soak import ceilings, invariants
from soak.evidence import Evidence, Resize, Run, Workload
from soak.pods import PodLife
from soak.tenants import Edit

BEGAN = datetime(2026, 1, 1, tzinfo=UTC)
PAIR = ("h100", "gpu")


def at(seconds: float) -> datetime:
    return BEGAN + timedelta(seconds=seconds)


def edit(when: float, *, leaf: int = 4, root: int = 4, borrowed: int | None = None, lent: int | None = None) -> Edit:
    """A root with two leaves, of which the first has these limits."""
    quota = Quota("h100", "gpu", leaf, borrowed, lent)
    tenants = [
        Tenant("root", quotas=(Quota("h100", "gpu", root),)),
        Tenant("one", "root", quotas=(quota,)),
        Tenant("two", "root", quotas=(Quota("h100", "gpu", 4),)),
    ]
    return Edit(at(when), {each.name: each for each in tenants})


def run(number: int, tenant: str, amount: int, opened: float, closed: float | None = None, **more: object) -> Run:
    made = Run(
        id=number,
        workload_id=number,
        uid=f"uid-{number}",
        job=f"team/job-{number}",
        attempt=1,
        tenant=tenant,
        queue="team/train",
        adopted=False,
        opened_at=at(opened),
        started_at=at(opened),
        stopped_at=None,
        closed_at=at(closed) if closed is not None else None,
        outcome="Running" if closed is None else "Finished",
        held={PAIR: amount},
        opened={PAIR: amount},
    )
    return replace(made, **more)  # type: ignore[arg-type]  # any field


def raised(*history: Run | Edit | Resize) -> list[str]:
    """Which tenants were raised above their ceilings."""
    runs = [each for each in history if isinstance(each, Run)]
    edits = [each for each in history if isinstance(each, Edit)]
    resizes = [each for each in history if isinstance(each, Resize)]
    return [sentence.split()[1] for sentence in ceilings.passed(runs, edits, resizes)]


def test_all_of_a_tree_may_be_borrowed_and_no_more() -> None:
    assert raised(edit(0), run(1, "one", 12, 1)) == []
    assert raised(edit(0), run(1, "one", 13, 1)) == ["root"]
    assert raised(edit(0), run(1, "one", 8, 1), run(2, "two", 5, 2)) == ["root"]


def test_a_borrowing_limit_is_a_ceiling_of_its_own() -> None:
    assert raised(edit(0, borrowed=2), run(1, "one", 6, 1)) == []
    assert raised(edit(0, borrowed=2), run(1, "one", 7, 1)) == ["one"]


def test_what_is_not_lent_is_nobody_elses() -> None:
    assert raised(edit(0, lent=1), run(1, "two", 9, 1)) == []
    assert raised(edit(0, lent=1), run(1, "two", 10, 1)) == ["root"]
    # The three that it keeps are there when others have the rest.
    assert raised(edit(0, lent=1), run(1, "two", 9, 1), run(2, "one", 3, 2)) == []


def test_what_was_given_back_may_be_taken_again_at_once() -> None:
    assert raised(edit(0), run(1, "one", 12, 1, 2), run(2, "two", 12, 2)) == []


def test_what_a_run_gave_back_under_way_may_be_taken() -> None:
    less = Resize(at(2), 1, *PAIR, 4)
    assert raised(edit(0), run(1, "one", 12, 1, 5), less, run(2, "two", 8, 3)) == []
    assert raised(edit(0), run(1, "one", 12, 1, 5), less, run(2, "two", 9, 3)) == ["root"]
    assert raised(edit(0), run(1, "one", 12, 1, 5), less, run(2, "two", 8, 3), run(3, "one", 5, 6)) == ["root"]


def test_only_who_goes_above_a_lowered_quota_is_named() -> None:
    lowered = edit(2, leaf=1, root=0)
    assert raised(edit(0), run(1, "one", 12, 1), lowered) == []
    assert raised(edit(0), run(1, "one", 12, 1), lowered, run(2, "two", 1, 3)) == ["root"]


def test_adopted_runs_go_above_and_nobody_goes_on_from_there() -> None:
    adopted = run(1, "one", 20, 1, adopted=True)
    assert raised(edit(0), adopted) == []
    assert raised(edit(0), adopted, run(2, "two", 1, 2)) == ["root"]


def test_runs_that_are_admitted_together_count_together() -> None:
    assert raised(edit(0), run(1, "one", 6, 1), run(2, "two", 6, 1)) == []
    assert raised(edit(0), run(1, "one", 6, 1), run(2, "two", 7, 1)) == ["root"]


def twice(*runs: Run, unsuspends: dict[int, tuple[str, int]] | None = None) -> list[str]:
    """What is said of runs of one workload."""
    of_one = [replace(each, workload_id=1, uid="uid", attempt=place) for place, each in enumerate(runs, 1)]
    started = {each.id: ("uid", 1) for each in of_one} if unsuspends is None else unsuspends
    seen = Evidence(
        workloads=[Workload(1, "uid", "team/job", "Admitted", len(runs), live=True)], runs=of_one, unsuspends=started
    )
    return list(invariants.none_admitted_twice(seen))


def test_runs_of_a_job_come_one_after_the_other() -> None:
    assert twice(run(1, "one", 1, 1, 2), run(2, "one", 1, 2)) == []
    assert "was opened while run 1 was open" in twice(run(1, "one", 1, 1, 3), run(2, "one", 1, 2))[0]
    assert "was opened while run 1 was open" in twice(run(1, "one", 1, 1), run(2, "one", 1, 2))[0]


def test_a_start_has_one_run_and_a_run_one_start() -> None:
    assert "2 times" in twice(run(1, "one", 1, 1), unsuspends={1: ("uid", 2)})[0]
    assert "nobody unsuspended" in twice(run(1, "one", 1, 1), unsuspends={})[0]
    assert "no such run" in twice(run(1, "one", 1, 1), unsuspends={1: ("uid", 1), 7: ("uid", 1)})[0]
    assert "no such run" in twice(run(1, "one", 1, 1), unsuspends={1: ("another", 1)})[0]


def test_quota_comes_back_when_the_pods_are_gone() -> None:
    def said(ended: float | None) -> list[str]:
        life = PodLife("pod", "uid-1", at(1.1), at(ended) if ended is not None else None)
        return list(invariants.released_when_gone(Evidence(runs=[run(1, "one", 1, 1, 5)], lives=[life])))

    assert said(4.9) == []
    assert len(said(8)) == 1
    assert len(said(None)) == 1
