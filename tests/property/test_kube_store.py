"""A consumer that looks whenever it likes ends up with what the cluster holds."""

from __future__ import annotations

from itertools import count

import msgspec
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from aiqueue.admission.kube.objects import Job
from aiqueue.admission.kube.store import JobStore
from aiqueue.admission.kube.watches import EventType

NAMES = st.sampled_from(("a", "b", "c"))


def job(name: str, uid: str, version: int) -> Job:
    metadata = {"name": name, "namespace": "d", "uid": uid, "resourceVersion": str(version)}
    return msgspec.convert({"metadata": metadata, "spec": {"template": {"spec": {}}}}, Job)


class Store(RuleBasedStateMachine):
    """`cluster` is the truth, `told` what the store was told, `known` what the consumer made of its drains."""

    def __init__(self) -> None:
        super().__init__()
        self.store = JobStore()
        self.numbers = count(1)
        self.cluster: dict[str, Job] = {}
        self.unseen: list[tuple[EventType, Job]] = []
        self.known: dict[str, Job] = {}
        self.listed = False

    def emit(self, kind: EventType, told: Job) -> None:
        self.unseen.append((kind, told))

    @rule(name=NAMES)
    def create_or_change(self, name: str) -> None:
        number = next(self.numbers)
        kind = EventType.MODIFIED if name in self.cluster else EventType.ADDED
        uid = self.cluster[name].metadata.uid if name in self.cluster else f"{name}-{number}"
        self.cluster[name] = job(name, uid, number)
        self.emit(kind, self.cluster[name])

    @precondition(lambda self: self.cluster)
    @rule(data=st.data())
    def delete(self, data: st.DataObject) -> None:
        name = data.draw(st.sampled_from(sorted(self.cluster)))
        last = self.cluster.pop(name)
        self.emit(EventType.DELETED, job(name, last.metadata.uid, next(self.numbers)))

    @precondition(lambda self: self.listed and self.unseen)
    @rule()
    def one_event_arrives(self) -> None:
        kind, told = self.unseen.pop(0)
        self.store.apply(kind, told)

    @precondition(lambda self: self.listed)
    @rule(name=NAMES)
    def a_late_echo_changes_nothing(self, name: str) -> None:
        seen = self.store.by_name("d", name)
        if seen is not None:
            self.store.apply(EventType.MODIFIED, job(name, seen.metadata.uid, int(seen.metadata.resource_version) - 1))
            assert self.store.by_name("d", name) == seen

    @rule()
    def list_again(self) -> None:
        self.unseen.clear()
        self.listed = True
        self.store.replace(list(self.cluster.values()), str(next(self.numbers)))

    @rule()
    def another_consumer_begins(self) -> None:
        self.known.clear()
        self.store.reset_drain()

    @rule()
    def consume(self) -> None:
        changes = self.store.drain(0.0)
        assert changes.replaced is False or self.listed
        upserts = {each.metadata.uid: each for each in changes.upserts}
        assert len(upserts) == len(changes.upserts), "each Job once"
        assert not upserts.keys() & {each.metadata.uid for each in changes.absent}
        if changes.replaced:
            assert upserts == {each.metadata.uid: each for each in self.store.snapshot()}, "replaced means all there is"
        for uid, each in upserts.items():
            before = self.known.get(uid)
            assert before is None or int(before.metadata.resource_version) <= int(each.metadata.resource_version)
        self.known.update(upserts)
        for each in changes.absent:
            self.known.pop(each.metadata.uid, None)
        if self.listed:
            assert self.known == {each.metadata.uid: each for each in self.store.snapshot()}
        assert not self.store.drain(0.0), "nothing is told twice"

    @invariant()
    def the_store_is_what_it_was_told(self) -> None:
        if self.listed and not self.unseen:
            assert {each.metadata.name: each for each in self.store.snapshot()} == self.cluster
            for name in ("a", "b", "c"):
                assert self.store.by_name("d", name) == self.cluster.get(name)


TestStore = Store.TestCase
