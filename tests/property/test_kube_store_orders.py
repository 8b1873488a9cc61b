"""Events in any order, twice, late or from before the list: store and consumer end up with what the cluster holds."""

from __future__ import annotations

from dataclasses import dataclass, field

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.kube.watches import EventType

NAMES = ("a", "b")
Told = tuple[EventType, Job]


def job(name: str, uid: str, version: int) -> Job:
    metadata = {"name": name, "namespace": "d", "uid": uid, "resourceVersion": str(version)}
    return msgspec.convert({"metadata": metadata, "spec": {"template": {"spec": {}}}}, Job)


@dataclass
class History:
    """What happened in a cluster: its events in order, and the Jobs there were at each version, labelled or not."""

    events: list[Told] = field(default_factory=list)
    worlds: list[dict[str, tuple[Job, bool]]] = field(default_factory=lambda: [{}])

    @property
    def now(self) -> int:
        return len(self.events)

    def step(self, name: str, what: str) -> None:
        """Change or delete the Job of a name, or take its label away; make it, or label it again, where it is not there."""
        world = dict(self.worlds[-1])
        version = self.now + 1
        before, labelled = world.pop(name, (None, False))
        told = job(name, before.metadata.uid if before is not None else f"{name}{version}", version)
        changed = EventType.MODIFIED if what == "change" else EventType.DELETED
        kind = changed if labelled else EventType.ADDED
        if what != "delete" or not labelled:
            world[name] = (told, kind is not EventType.DELETED)
        self.events.append((kind, told))
        self.worlds.append(world)

    def listed(self, version: int) -> dict[str, Job]:
        return {name: each for name, (each, labelled) in self.worlds[version].items() if labelled}


@st.composite
def histories(draw: st.DrawFn) -> History:
    made = History()
    for name, what in draw(
        st.lists(st.tuples(st.sampled_from(NAMES), st.sampled_from(("change", "delete", "unlabel"))), min_size=1, max_size=14)
    ):
        made.step(name, what)
    return made


@given(histories(), st.data())
def test_any_order_of_events_leads_to_what_the_cluster_holds(history: History, data: st.DataObject) -> None:
    at = data.draw(st.integers(0, history.now), label="version of the list")
    late = data.draw(st.lists(st.sampled_from(history.events), max_size=6), label="told once more")
    told = data.draw(st.permutations([*history.events[at:], *late]), label="order")
    store = JobStore()
    store.replace(list(history.listed(at).values()), str(at))
    known: dict[str, Job] = {}
    for event in told:
        store.apply(*event)
        if data.draw(st.booleans()):
            consume(store, known)
    consume(store, known)
    expected = history.listed(history.now)
    assert {each.metadata.name: each for each in store.snapshot()} == expected
    assert {name: store.by_name("d", name) for name in NAMES} == {name: expected.get(name) for name in NAMES}
    assert known == {each.metadata.uid: each for each in expected.values()}


def consume(store: JobStore, known: dict[str, Job]) -> None:
    """Take in what changed, as the controller does: nothing it is told is older than what it knows."""
    changes = store.drain(0.0)
    if changes.replaced:
        known.clear()
    for each in changes.upserts:
        before = known.get(each.metadata.uid)
        assert before is None or int(before.metadata.resource_version) <= int(each.metadata.resource_version)
        known[each.metadata.uid] = each
    for each in changes.absent:
        known.pop(each.metadata.uid, None)
