"""Whatever happens between the start of a Job and its end, its owner gets back what he wrote, to the byte.

Templates, flavors and paths are generated; the API server and Postgres are real, and so is every step of the product that reads or
writes a Job. What the Job controller does is played through jobs/status, so that an example takes a fraction of a second and every
step can come before or after any other. `fix_twins` says how the owner's template is told from ours: a twin of the Job, which nobody
but the owner touches.
"""

from __future__ import annotations

import math
import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from aiqueue.admission.controller.term import Term
from aiqueue.admission.kube.client import KubeClient
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.queue.records import Flavor, Toleration
from aiqueue.queue.words import RunOutcome
from fix_engine_shares import count, counted
from fix_terms import Observer
from fix_twins import Twins

pytestmark = pytest.mark.e2e

KEYS = ("pool", "kind", "example.com/zone")
#: What flavors tolerate, and now and then their owners too, in these words or others.
THEIRS: tuple[dict[str, Any], ...] = (
    {"key": "spot", "operator": "Exists"},
    {"key": "gpu", "operator": "Equal", "value": "yes", "effect": "NoSchedule"},
    {"key": "slow", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 0},
)
#: What owners tolerate.
HIS: tuple[dict[str, Any], ...] = (
    *THEIRS,
    {"key": "gpu", "value": "yes", "effect": "NoSchedule"},  # the same as above, with the operator left out
    {"key": "spot", "operator": "Exists", "effect": "NoSchedule"},
    {"key": "spot", "value": "", "effect": "NoExecute", "tolerationSeconds": 30},
    {"operator": "Exists"},
    {"key": "slow", "operator": "Exists", "effect": "NoExecute"},
)
#: What he comes by later, which no flavor has.
NEW: tuple[dict[str, Any], ...] = (
    {"key": "mine", "operator": "Exists"},
    {"key": "mine", "value": "1", "effect": "PreferNoSchedule"},
    {"key": "slow", "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 60},
)
PREFERRED = {
    "nodeAffinity": {
        "preferredDuringSchedulingIgnoredDuringExecution": [
            {"weight": 3, "preference": {"matchExpressions": [{"key": "disk", "operator": "In", "values": ["ssd"]}]}}
        ]
    }
}
REQUIRED = {
    "nodeAffinity": {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [{"matchExpressions": [{"key": "pool", "operator": "Exists"}]}]
        }
    },
    "podAntiAffinity": {},
}


def absent_or(values: st.SearchStrategy[Any]) -> st.SearchStrategy[Any]:
    """A field that is left out, null, or there."""
    return st.one_of(st.just(...), st.none(), values)


def maps(values: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, str]]:
    return st.dictionaries(st.sampled_from(KEYS), values, max_size=3)


ASKED: tuple[dict[str, Any], ...] = (
    {"resources": {"requests": {"cpu": "10m"}}},
    {"resources": {"limits": {"cpu": "0.1", "memory": "1Gi"}}, "env": [{"name": "A"}, {"name": "B", "value": ""}]},
    {"ports": [{"containerPort": 80}], "resources": {}, "command": []},
)
CONTAINERS = st.lists(st.sampled_from(ASKED), min_size=1, max_size=2).map(
    lambda chosen: [{"name": f"c{n}", "image": "registry.example/main:1", **each} for n, each in enumerate(chosen)]
)

POD = st.fixed_dictionaries(
    {
        "containers": CONTAINERS,
        "nodeSelector": absent_or(maps(st.sampled_from(("f-a", "own", "")))),
        "tolerations": absent_or(st.lists(st.sampled_from(HIS), max_size=4)),
        "affinity": absent_or(st.sampled_from(({}, PREFERRED, REQUIRED))),
        "schedulingGates": absent_or(st.sampled_from(([], [{"name": "example.com/gate"}]))),
        "terminationGracePeriodSeconds": absent_or(st.just(5)),
        "securityContext": absent_or(st.just({})),
        "priorityClassName": absent_or(st.just("")),
    }
)


def said(fields: dict[str, Any]) -> dict[str, Any]:
    """Without the fields that are left out."""
    return {key: value for key, value in fields.items() if value is not ...}


@st.composite
def jobs(draw: st.DrawFn) -> dict[str, Any]:
    """A Job with a generated spec."""
    labels, annotations = draw(absent_or(maps(st.just("l")))), draw(absent_or(maps(st.just(""))))
    metadata = said({"labels": labels, "annotations": annotations})
    bare: bool = draw(st.booleans())
    indexed: bool = draw(st.booleans())
    spec: dict[str, Any] = {
        "template": {
            **({"metadata": metadata} if metadata or bare else {}),
            "spec": {"restartPolicy": "Never", **said(draw(POD))},
        }
    }
    parallelism, completions = draw(st.sampled_from((..., 1, 4, 8))), draw(st.sampled_from((..., 3, 8)))
    spec |= said({"parallelism": parallelism, "completions": completions})
    if completions is not ... and indexed:
        spec["completionMode"] = "Indexed"
    return {"spec": spec}


@st.composite
def flavors(draw: st.DrawFn) -> list[Flavor]:
    """Three flavors that may speak of the same keys and tolerate the same."""
    return [
        Flavor(
            name,
            draw(maps(st.sampled_from((f"f-{name}", "f-shared")))),
            tolerations=tuple(map(toleration, draw(st.lists(st.sampled_from(THEIRS), unique_by=str, max_size=2)))),
        )
        for name in "abc"
    ]


def toleration(wire: dict[str, Any]) -> Toleration:
    return Toleration(
        wire["key"], wire["operator"], wire.get("value", ""), wire.get("effect", ""), wire.get("tolerationSeconds")
    )


# The owner's edits, each a merge patch of the spec made of the spec that he sees.


def pod(fields: dict[str, Any]) -> dict[str, Any]:
    return {"template": {"spec": fields}}


def without(listed: list[Any], item: Any) -> list[Any]:
    """Without the first such item."""
    place = listed.index(item) if item in listed else len(listed)
    return listed[:place] + listed[place + 1 :]


def respelled(wire: dict[str, Any]) -> dict[str, Any]:
    """The same toleration in other words, where there are any: to write no operator means Equal."""
    if wire.get("operator", "Equal") != "Equal" or not wire.get("key"):
        return wire
    return (
        {key: value for key, value in wire.items() if key != "operator"}
        if "operator" in wire
        else {**wire, "operator": "Equal"}
    )


def edit_of(what: str, number: int, twin: dict[str, Any]) -> Callable[[dict[str, Any]], dict[str, Any]]:
    """An edit of some kind; `number` chooses among those there are."""
    key, new = KEYS[number % len(KEYS)], NEW[number % len(NEW)]
    own = twin["template"]["spec"].get("tolerations") or []
    less = own[number % len(own)] if own else {}
    edits: dict[str, Callable[[list[Any]], dict[str, Any]]] = {
        "select": lambda _: pod({"nodeSelector": {key: f"mine-{number}"}}),
        "unselect": lambda _: pod({"nodeSelector": {key: None}}),
        "select-nothing": lambda _: pod({"nodeSelector": None}),
        "tolerate-more": lambda seen: pod({"tolerations": [*seen, new]}),
        "tolerate-others": lambda _: pod({"tolerations": list(NEW[: number % 4])}),
        "respell": lambda seen: pod({"tolerations": [respelled(each) for each in seen]}),
        "tolerate-less": lambda seen: pod({"tolerations": without(seen, less)}),
        "resize": lambda _: {"parallelism": 100 + number},
        "annotate": lambda _: {"template": {"metadata": {"annotations": {key: "edited"}, "labels": {key: "edited"}}}},
        "gate": lambda _: pod({"schedulingGates": [{"name": f"example.com/gate-{number}"}]}),
        "prefer": lambda _: pod({"affinity": (PREFERRED, REQUIRED, None)[number % 3]}),
        "ask": lambda _: pod({"containers": [{**twin["template"]["spec"]["containers"][0], "resources": ASKS[number % 2]}]}),
    }
    return lambda spec: edits[what](spec["template"]["spec"].get("tolerations") or [])


ASKS = ({"requests": {"cpu": "20m"}}, {"requests": {"cpu": "10m", "memory": "1Gi"}, "limits": {"memory": "1Gi"}})
EDITS = (
    "select",
    "select",
    "unselect",
    "select-nothing",
    "tolerate-more",
    "tolerate-more",
    "tolerate-others",
    "tolerate-less",
    "respell",
    "resize",
    "annotate",
    "gate",
    "prefer",
    "ask",
)
#: One run from its start to its end takes many steps that have to come in order, so they come as phrases, whole or cut short.
RUNS = "admit act control tell follow"
ENDS = "act control tell follow confirm"
PHRASES = (
    "admit",
    "act",
    "lose",
    "late",
    "attempt",
    "hear",
    "control",
    "tell",
    "follow",
    "confirm",
    "kill",
    "edit",
    "edit",
    "slip",
    "hold",
    "leave",
    "return",
    "move",
    RUNS,
    RUNS,
    f"{RUNS} drain {ENDS}",
    f"{RUNS} drain {ENDS}",
    f"{RUNS} drain {ENDS} admit",
    f"{RUNS} drain {ENDS} edit admit act",
    f"{RUNS} drain kill {ENDS} kill act",
    f"{RUNS} drain lose {ENDS} lose",
    f"{RUNS} suspend {ENDS} act release tell follow",
    f"{RUNS} suspend release {ENDS}",
    f"{RUNS} expire {ENDS}",
    f"{RUNS} drain {ENDS} slip act tell follow",
    f"{RUNS} drain {ENDS} slip tell act control tell follow",
    f"{RUNS} drain {ENDS} slip tell attempt suspend tell hear follow",
    "admit edit=respell act control tell follow",
    "admit edit act tell follow act",
    "admit edit tell follow act",
    "admit drain act tell follow confirm",
    f"{RUNS} drain {ENDS} admit drain act act late",
    "admit hold act release tell follow",
)
EXAMPLES = int(os.environ.get("AIQUEUE_TEST_EXAMPLES", "40"))
STEPS = st.lists(st.tuples(st.sampled_from(PHRASES), st.integers(0, 7), st.integers(0, 2)), min_size=3, max_size=7)


def play(twins: Twins, steps: Iterable[tuple[str, int, int]], draw: Callable[[Any], Any] = lambda _: None) -> set[str]:
    """Play the steps; returns what came about. `edit` alone is an edit of any kind."""
    came: set[str] = set()
    for phrase, number, flavor in steps:
        for step in phrase.split():
            stamped = "aiqueue.dev/run" in twins.job()["metadata"].get("annotations", {})
            if step.startswith("edit"):
                what = step.partition("=")[2] or draw(st.sampled_from(EDITS))
                if twins.edit(edit_of(what, number, twins.job("-twin")["spec"])):
                    came.add("edited with ours in it" if stamped else "edited")
            elif step == "admit":
                if twins.admit(flavor, number):
                    came.add("admitted again before the restoration" if stamped else "admitted")
            elif one_step(twins, step):
                came.add(step)
    return came


def begin_anew(twins: Twins) -> bool:
    """The process ends, and another one begins."""
    twins.begin()
    twins.tell()
    twins.follow()
    return True


def one_step(twins: Twins, step: str) -> bool:
    """One step without a choice in it; whether it did something."""
    steps: dict[str, Callable[[], bool | None]] = {
        "act": twins.act,
        "attempt": twins.attempt,
        "hear": twins.hear,
        "late": twins.act_late,
        "lose": lambda: twins.attempt() and begin_anew(twins),  # it ends before the cycle has heard of what was done
        "kill": lambda: begin_anew(twins),
        "drain": lambda: twins.evict(RunOutcome.DRAINED),
        "expire": lambda: twins.evict(RunOutcome.EXPIRED) and twins.act(),
        "slip": lambda: twins.suspend(False),
        "suspend": lambda: twins.suspend(True),
        "hold": lambda: twins.annotate("aiqueue.dev/hold", "true"),
        "release": lambda: twins.annotate("aiqueue.dev/hold", "false"),
        "leave": lambda: twins.label(None),
        "return": lambda: twins.label("train"),
        "move": lambda: twins.label("other"),
        "control": twins.control,
        "tell": twins.tell,
        "follow": twins.follow,
        "confirm": twins.confirm,
    }
    return steps[step]() is not False


@dataclass
class World:
    """Where twins live."""

    cluster: DevCluster
    kube: KubeClient
    namespace: str
    ledger: Engine
    term: Term
    observer: Callable[..., Observer]

    def twins(self, flavors: list[Flavor], document: dict[str, Any]) -> Twins:
        return Twins(self.cluster, self.kube, self.namespace, self.ledger, self.term, self.observer, flavors, document)


@pytest.fixture
def world(
    cluster: DevCluster,
    kube: KubeClient,
    kube_namespace: str,
    *,
    ledger: Engine,
    term: Term,
    observer: Callable[..., Observer],
) -> World:
    term._trusted_until = math.inf  # the examples take longer than any lease
    return World(cluster, kube, kube_namespace, ledger, term, observer)


@counted(started=50, admitted_again_before_the_restoration=8, edited_with_ours_in_it=2, process_ended=4)
@settings(
    max_examples=EXAMPLES,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
    phases=(Phase.explicit, Phase.reuse, Phase.generate),  # to shrink what fails takes minutes: what it did is told instead
)
@given(document=jobs(), among=flavors(), steps=STEPS, edits=st.data())
def test_its_owner_gets_his_template_back(
    world: World,
    document: dict[str, Any],
    among: list[Flavor],
    steps: list[tuple[str, int, int]],
    edits: st.DataObject,
) -> None:
    twins = world.twins(among, document)
    came = play(twins, steps, edits.draw)
    twins.settle()
    twins.check_restored()
    ways = ("admitted again before the restoration", "edited with ours in it", "late", "expire", "slip", "leave")
    ended = bool(came & {"kill", "lose"})
    count(started=twins.started > 0, process_ended=ended, **{way.replace(" ", "_"): way in came for way in ways})


AMONG = [
    Flavor("a", {"pool": "f-a", "kind": "f-a"}, tolerations=(Toleration("spot", "Exists"),)),
    Flavor("b", {"kind": "f-b"}, tolerations=(Toleration("gpu", "Equal", "yes", "NoSchedule"),)),
    Flavor("c", {}),
]
DOCUMENT = {
    "spec": {
        "parallelism": 4,
        "template": {
            "spec": {
                "restartPolicy": "Never",
                "containers": [{"name": "c0", "image": "registry.example/main:1"}],
                "nodeSelector": {"pool": "f-a", "example.com/zone": "own"},
                "tolerations": [HIS[3], HIS[3], HIS[4]],
            }
        },
    }
}
STOPPED = f"{RUNS} drain {ENDS}"
PATHS: dict[str, tuple[str, ...]] = {
    "put back": (STOPPED, "act"),
    "stopped, and its run closed before that was seen": ("admit hold tell drain act act follow", "tell follow act"),
    "stopped before it was started": ("admit drain act tell follow confirm", "act"),
    "put back, and nobody heard of it": (STOPPED, "lose", "act"),
    "killed between any two steps": (" kill ".join(STOPPED.split()), "kill act"),
    "admitted again before": (STOPPED, "admit act act control tell follow"),
    "admitted again and again, elsewhere and at another size": (STOPPED, STOPPED, STOPPED, "admit drain act act act"),
    "edited while it goes": (f"{RUNS} drain act control edit=select edit=tolerate-more edit=resize tell follow confirm", "act"),
    "edited, then admitted again": (STOPPED, "edit=select edit=tolerate-others admit act act", "tell follow act"),
    "edited between decision and start": ("admit edit=tolerate-more act tell follow",),
    "put into other words between decision and start": ("admit edit=respell act control tell follow",),
    "edited out of what we wrote": (
        f"{RUNS} drain act control edit=select-nothing edit=tolerate-others tell follow confirm act",
    ),
    "left, and comes back": (f"{RUNS} drain act control leave tell follow confirm", "act return tell follow"),
    "left before it was seen to be stopped": ("leave admit drain act act tell follow confirm confirm",),
    "left, and came back between two looks": ("leave tell follow return confirm admit act control tell follow",),
    "suspended by its owner, and released": (f"{RUNS} suspend {ENDS} act release tell follow {RUNS}",),
    "started by others before it was put back, and adopted": (STOPPED, "slip act tell follow control tell follow"),
    "started by others, and seen so when it was to be put back": (STOPPED, "slip tell act control tell follow"),
    "started and stopped by others while it was to be put back": (STOPPED, "slip tell attempt suspend tell hear follow"),
    "started by others first": ("admit slip act control tell follow",),
    "over its time": (f"{RUNS} expire suspend {ENDS} act",),
    "tried by a thread that was held up": ("admit drain act tell follow confirm", "late act late"),
    "not started because of what was taken back at once": ("admit hold act release tell follow confirm", RUNS),
    "the same, and nobody was left to see that": ("admit hold act release kill confirm", RUNS),
    "not started, as what another run wrote stands there": (STOPPED, "admit slip tell act suspend hold act tell follow"),
}


def test_on_every_path(world: World, subtests: pytest.Subtests) -> None:
    for name, path in PATHS.items():
        with subtests.test(name):
            twins = world.twins(AMONG, DOCUMENT)
            play(twins, ((phrase, number + 1, number % len(AMONG)) for number, phrase in enumerate(path)))
            twins.settle()
            twins.check_restored()
