"""A Job is admitted at some size on some flavor, stopped, admitted again, edited by its owner: what it runs with, and what it gets back."""

from __future__ import annotations

import json
from dataclasses import dataclass, field, replace
from typing import Any

import msgspec
from hypothesis import given, settings
from hypothesis import strategies as st

from aiqueue.admission.controller import rewriting
from aiqueue.admission.controller.rewriting import Standing
from aiqueue.admission.engine.plan import Admission
from aiqueue.admission.kube import objects, patches
from aiqueue.admission.kube.jobs import observe, template_of
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import Flavor, Toleration
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.written import Written
from aiqueue.queue.words import ActionKind
from fix_builders import GPU, make_configuration, make_quotas, make_tenant, make_workload
from fix_engine_shares import count, counted
from fix_merge import merged

LEDGER = "0f8fad5b-d9cb-469f-a165-70867728950e"
FLAVORS = (
    Flavor("a", {"pool": "a"}),
    Flavor("b", {"kind": "b"}, tolerations=(Toleration("spot", "Exists"),)),
    Flavor("c", {"pool": "c", "kind": "c"}),
    Flavor("d"),
)
CONFIGURATION = make_configuration(
    [make_tenant(quotas=make_quotas({flavor.name: {GPU: 99} for flavor in FLAVORS}))], flavors=FLAVORS
)
SELECTORS: tuple[dict[str, str], ...] = ({}, {"zone": "z"}, {"pool": "a", "zone": "z"})
TOLERATIONS: tuple[list[dict[str, Any]], ...] = ([], [{"key": "mine", "operator": "Exists"}])
LEAST = 2


@dataclass
class Play:
    """A Job as the API server has it, its owner's wish, and the ledger's rows of its runs.

    Attributes:
        wish: the parallelism that the owner asked for last.
        own: its owner's node selector.
        tolerates: its owner's tolerations.
        asked: pods of the gang by what was last seen while it was the owner's.
    """

    job: dict[str, Any]
    wish: int
    own: dict[str, str]
    tolerates: list[dict[str, Any]]
    asked: int = 0
    runs: list[Action] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.follow()

    @property
    def decoded(self) -> objects.Job:
        return msgspec.json.decode(json.dumps(self.job), type=objects.Job)

    @property
    def seen(self) -> Observation:
        return observe(self.decoded, cluster="default")

    @property
    def spec(self) -> dict[str, Any]:
        spec: dict[str, Any] = self.job["spec"]
        return spec

    @property
    def selector(self) -> dict[str, str]:
        return dict(self.spec["template"]["spec"].get("nodeSelector") or {})

    @property
    def tolerations(self) -> list[dict[str, Any]]:
        return list(self.spec["template"]["spec"].get("tolerations") or [])

    @property
    def pods(self) -> int:
        parallelism = int(self.spec["parallelism"])
        return min(parallelism, int(self.spec.get("completions", parallelism)))

    def follow(self) -> None:
        """The ledger takes over what the owner asks for, while nothing of ours is there."""
        if self.seen.stamp is None:
            self.asked = self.seen.pod_sets[0].count

    def admit(self, flavor: int, size: int) -> tuple[Action, int]:
        """A Plan is committed: the run is in the ledger, and nothing is sent yet. Returns its size too."""
        workload = make_workload(1, pods=self.asked)
        least = min(LEAST, self.asked)
        size = least + size % (self.asked - least + 1)
        admission = Admission(
            workload, "research", len(self.runs) + 1, (), {"main": {GPU: FLAVORS[flavor].name}}, {"main": size}
        )
        last = self.runs[-1] if self.runs else None
        if self.seen.stamp is None:
            standing = Standing(template_of(self.decoded), pristine=True)
        else:
            earlier = Written(last.original, last.injected) if last is not None else None
            standing = Standing(template_of(self.decoded), earlier=earlier)
        rewritten = rewriting.rewriting(admission, CONFIGURATION, standing)
        stored = json.loads(json.dumps([rewritten.original, rewritten.injected]))  # as Postgres keeps it
        run_id = len(self.runs) + 1
        self.runs.append(
            Action(
                run_id,
                1,
                "u",
                "ns",
                "it",
                "train",
                run_id,
                run_id,
                ActionKind.UNSUSPEND,
                "7",
                "shape",
                RunStamp(LEDGER, run_id, run_id),
                *stored,
            )
        )
        return self.runs[-1], size

    def start(self, run: Action, size: int, flavor: int) -> None:
        assert run.stamp is not None
        self.job = merged(self.job, rewriting.start(run, run.stamp, "7"))
        assert self.selector == {**self.own, **FLAVORS[flavor].node_labels}
        assert self.tolerations == [
            *self.tolerates,
            *({"key": each.key, "operator": "Exists"} for each in FLAVORS[flavor].tolerations),
        ]
        self.runs_with(size)

    def slip_by(self, run: Action, size: int) -> None:
        """Somebody else unsuspends it before we do."""
        assert run.stamp is not None
        self.spec["suspend"] = False
        self.job = merged(self.job, rewriting.claim(run, run.stamp, "7"))
        self.runs_with(size)

    def runs_with(self, size: int) -> None:
        assert self.spec["suspend"] is False
        assert self.pods == size

    def stop(self) -> None:
        run = self.runs[-1]
        assert run.stamp is not None
        self.job = merged(self.job, patches.suspend("u", "7", run.stamp))

    def edit(self, what: int, number: int) -> None:
        """The owner changes something while it is suspended, to what no run ever wrote; of tolerations he edits what he sees."""
        pod = self.spec["template"]["spec"]
        mine = f"mine-{number}"
        match what:
            case 0:
                self.wish = self.spec["parallelism"] = 100 + number
            case 1:
                key = ("pool", "kind", "zone")[number % 3]
                self.own = {**self.own, key: mine}
                pod["nodeSelector"] = {**self.selector, key: mine}
            case 2:
                self.own = {}
                pod["nodeSelector"] = {}
            case _:
                added = [{"key": mine, "operator": "Exists"}] * (number % 3)
                kept = [] if number < 3 else self.tolerates
                pod["tolerations"] = added + [each for each in self.tolerations if each not in self.tolerates or each in kept]
                self.tolerates = added + kept
        self.follow()

    def change_before_start(self, run: Action, what: int, number: int) -> Action:
        """The owner edits what was decided on. Only the size is a reason not to start it; returns the run as it is then."""
        self.edit(what, number)
        return replace(run, original=rewriting.found(run, template_of(self.decoded), pristine=self.seen.stamp is None))

    def restore(self) -> None:
        if self.seen.stamp is not None:
            self.job = merged(self.job, rewriting.restoration(self.runs[-1], template_of(self.decoded), "7"))
        self.follow()


STEPS = st.tuples(
    st.sampled_from(("run", "run", "run", "late", "slip", "abandon", "edit", "edit", "restore")),
    st.integers(0, 3),
    st.integers(0, 7),
)


@counted(part=40, again=30, edited=30, edited_between=10, late=20, fewer_completions=20)
@settings(max_examples=400)
@given(
    st.integers(3, 8),
    st.sampled_from((None, None, 3, 5)),
    st.sampled_from(SELECTORS),
    st.sampled_from(TOLERATIONS),
    st.lists(STEPS, min_size=3, max_size=8),
)
def test_a_job_runs_at_the_size_it_was_admitted_at_and_gets_back_what_its_owner_had(
    parallelism: int,
    completions: int | None,
    selector: dict[str, str],
    tolerations: list[dict[str, Any]],
    steps: list[tuple[str, int, int]],
) -> None:
    pod = {**({"nodeSelector": selector} if selector else {}), **({"tolerations": tolerations} if tolerations else {})}
    spec: dict[str, Any] = {"suspend": True, "parallelism": parallelism, "template": {"spec": pod}}
    if completions is not None:
        spec["completions"] = completions
    metadata = {"name": "it", "namespace": "ns", "uid": "u", "resourceVersion": "7", "labels": {"aiqueue.dev/queue": "train"}}
    play = Play({"metadata": metadata, "spec": spec, "status": {}}, parallelism, selector, tolerations)
    part = again = edited = between = late = False
    for what, flavor, size in steps:
        if what == "edit":
            between = between or play.seen.stamp is not None
            play.edit(flavor, size)
            edited = True
        elif what == "restore":
            play.restore()
        else:
            again = again or play.seen.stamp is not None
            run, admitted = play.admit(flavor, size)
            part = part or admitted < play.asked
            if what == "late":
                run = play.runs[-1] = play.change_before_start(run, 1 + size % 3, size)
                late = True
            if what in ("run", "late"):
                play.start(run, admitted, flavor)
                play.stop()
            elif what == "slip":
                play.slip_by(run, admitted)
                play.stop()
    play.restore()
    assert play.spec["parallelism"] == play.wish
    assert play.selector == play.own
    assert play.tolerations == play.tolerates
    assert play.spec["suspend"] is True
    assert play.seen.stamp is None
    fewer = completions is not None and completions < parallelism
    count(part=part, again=again, edited=edited, edited_between=between, late=late, fewer_completions=fewer)
