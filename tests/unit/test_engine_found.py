"""Small cases in which the engine once did other than the slow reference, each as it was found."""

from collections.abc import Sequence

from aiqueue.queue.records import PodSet, Quota, Tenant
from aiqueue.queue.words import Queueing, Reason, Reclaim
from fix_builders import GPU, make_configuration, make_queue, make_workload
from fix_engine_player import Player

NEVER = 10**6


def leaf(name: str, nominal: int, *, bound: int = NEVER, keeps: bool = False) -> Tenant:
    """A tenant under lab; where it keeps, it is Strict and reserves for its blocked head."""
    queueing = Queueing.STRICT if keeps else Queueing.BEST_EFFORT
    reclaim = Reclaim.NEVER if keeps else Reclaim.ANY
    quotas = (Quota("a", GPU, nominal),)
    return Tenant(name, "lab", quotas=quotas, queueing=queueing, reclaim=reclaim, starvation_bound_seconds=bound)


def player_of(leaves: Sequence[Tenant]) -> Player:
    return Player(make_configuration([Tenant("lab"), *leaves], [make_queue(each.name, each.name, "ns") for each in leaves]))


def ask(player: Player, number: int, queue: str, gpus: int, created: int = 0) -> None:
    player.pend(make_workload(number, gpus=gpus, queue=queue, namespace="ns", created=created))


def admitted(player: Player) -> list[int]:
    return [each.workload.id for each in player.decide().admissions]


def test_what_a_tenant_keeps_for_its_head_is_not_told_as_missing() -> None:
    player = player_of([leaf("own", 8, keeps=True)])
    ask(player, 1, "own", 5, created=1)
    ask(player, 2, "own", 5, created=2)
    assert admitted(player) == [1]
    verdict = player.engine.verdict(2)
    assert verdict is not None
    assert verdict.reason is Reason.WAITING_FOR_QUOTA
    assert [(short.requested, short.available) for short in verdict.shortfalls] == [(5, 3)]


def test_a_head_that_only_somebody_overdue_keeps_back_reserves_nothing_against_it() -> None:
    """Else each of the two would keep the other waiting, with everything free."""
    player = player_of([leaf("keeps", 6, keeps=True), leaf("late", 3, bound=0)])
    ask(player, 20, "keeps", 8, created=1)
    ask(player, 5, "late", 8, created=27)
    assert admitted(player) == [5]


def test_two_heads_that_reserved_do_not_go_on_blocking_each_other_when_all_is_free() -> None:
    player = player_of([leaf("one", 2, keeps=True), leaf("two", 3, keeps=True), leaf("third", 2)])
    ask(player, 1, "third", 7)
    assert admitted(player) == [1]
    ask(player, 2, "one", 6, created=5)
    ask(player, 3, "two", 6, created=6)
    assert admitted(player) == []
    player.close(min(player.runs), back=False)
    assert len(admitted(player)) == 1


def test_a_deadline_that_passes_while_a_plan_waits_to_be_confirmed_counts() -> None:
    player = player_of([leaf("late", 2, bound=40), leaf("next", 3)])
    ask(player, 20, "late", 4, created=17)
    ask(player, 10, "next", 4, created=29)
    player.now = 56
    player.engine.decide(player.time)
    player.now = 57
    assert admitted(player) == [20]


def test_what_stands_behind_a_starving_gang_goes_where_the_gang_cannot() -> None:
    """It is woken when there is room on a flavor that the gang does not need."""
    quotas = (Quota("a", GPU, 8), Quota("b", GPU, 8))
    configuration = make_configuration(
        [Tenant("alone", quotas=quotas, starvation_bound_seconds=0)], [make_queue("alone", "alone", "ns")]
    )
    flavors = {name: type(flavor)(name, {"kind": name}) for name, flavor in configuration.flavors.items()}
    player = Player(type(configuration)(1, flavors, configuration.tenants, configuration.queues))

    def on(number: int, kind: str | None, gpus: int) -> None:
        selector = {} if kind is None else {"kind": kind}
        sets = (PodSet("main", 1, {GPU: gpus}, None, selector),)
        player.pend(make_workload(number, pod_sets=sets, queue="alone", namespace="ns", created=number))

    on(1, "a", 1)
    on(2, "b", 8)
    assert admitted(player) == [1, 2]
    on(3, "a", 8)
    on(4, None, 2)
    assert admitted(player) == []
    assert {number: str(verdict.reason) for number, verdict in player.verdicts().items() if verdict} == {
        3: "WaitingForQuota",
        4: "BehindStarvingGang",
    }
    player.close(next(run_id for run_id, run in player.runs.items() if run.workload.id == 2), back=False)
    assert admitted(player) == [4]


def test_who_becomes_overdue_himself_goes_by_the_champion_alone() -> None:
    """b waits for 4 NICs and for 4 GPUs, of both of which 3 are left. a's 1 GPU is kept back by the latter until it is overdue too."""
    nic = "example.com/nic"
    listed = (Quota("a", GPU, 0), Quota("a", nic, 0))
    lab = Tenant("lab", quotas=(Quota("a", GPU, 4), Quota("a", nic, 4)))
    leaves = [Tenant(name, "lab", quotas=listed, starvation_bound_seconds=100) for name in "abc"]
    player = Player(make_configuration([lab, *leaves], [make_queue(each.name, each.name, "ns") for each in leaves]))

    def asks(number: int, queue: str, created: int, requests: dict[str, int]) -> None:
        player.pend(
            make_workload(number, pod_sets=(PodSet("main", 1, requests),), queue=queue, namespace="ns", created=created)
        )

    asks(1, "c", 0, {GPU: 1, nic: 1})
    assert admitted(player) == [1]
    asks(2, "b", 1, {nic: 4})
    asks(3, "b", 2, {GPU: 4})
    asks(4, "a", 60, {GPU: 1})
    player.now = 159
    assert admitted(player) == []
    verdict = player.engine.verdict(4)
    assert verdict is not None
    assert verdict.reason is Reason.BEHIND_STARVING_GANG
    player.now = 160
    assert admitted(player) == [4]


def test_a_gang_of_a_tenant_with_little_is_not_passed_over_for_ever() -> None:
    """Of 12 one tenant runs all, 4 of them its own; the other waits for 8, of which 4 are its own. What is borrowed is not taken again."""
    player = player_of([leaf("many", 4, bound=10), leaf("large", 4, bound=10), leaf("idle", 4)])
    for number in range(1, 31):
        ask(player, number, "many", 1, created=number)
    player.now = 50
    assert len(admitted(player)) == 12
    ask(player, 40, "large", 8, created=20)
    assert admitted(player) == []
    for _ in range(8):
        player.close(min(player.runs), back=False)
        found = admitted(player)
    assert found == [40]
