"""What a run writes into its Job and what is put back: node selector, tolerations, and the size where it is not the whole.

The ledger keeps both with the run before anything is written (`Rewriting`), by pod set:

    original   nodeSelector, tolerations, parallelism of the owner
    injected   nodeSelector and tolerations of the flavors; parallelism, where the run sets it
               earlier: what runs before it may have left: {nodeSelector: keys, parallelism: sizes}

A Job may be admitted again before what its last run wrote was taken back. Then the Job itself does not tell what is its owner's, and
`original` is what the ledger kept for that run. Only the size is looked at: one that no run wrote is one that the owner asks for
since, and so it stays. Such a run always sets the size that it was admitted at, whatever stands there.

An adopted run wrote nothing, and nothing is put back after it: a size that a lost ledger's run had set stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiqueue.admission.engine.plan import Admission
from aiqueue.admission.kube import patches
from aiqueue.admission.kube.names import POD_SET
from aiqueue.admission.kube.templates import toleration_from_wire, union
from aiqueue.queue.observations import Observation, RunStamp
from aiqueue.queue.records import Configuration, PodSet, Toleration
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.codec import tolerations_to_json
from aiqueue.queue.store.written import Written

Template = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """A Job when it is admitted.

    Attributes:
        template: what stands there exactly (`jobs.template_of`), None if it is not at hand.
        pristine: whether that is known to be its owner's.
        earlier: what its last run found and wrote, where that may still be there.
    """

    template: Template | None = None
    pristine: bool = False
    earlier: Written | None = None


@dataclass(frozen=True, slots=True)
class Rewriting:
    """By pod set, what is to be put back and what is to be written."""

    original: dict[str, Template]
    injected: dict[str, Template]


def rewriting(admission: Admission, configuration: Configuration, standing: Standing) -> Rewriting:
    """What an admission writes into a Job that stands like this."""
    original: dict[str, Template] = {}
    written: dict[str, Template] = {}
    for pod_set in admission.workload.pod_sets:
        name = pod_set.name
        size = admission.counts.get(name, pod_set.count)
        adds = written[name] = injected(admission.flavors.get(name, {}).values(), configuration)
        if standing.pristine and standing.template is not None:
            original[name] = standing.template
            if size != pod_set.count:
                adds["parallelism"] = size
            continue
        earlier = _earlier(name, standing.earlier)
        original[name] = _of_owner(pod_set, standing, earlier["parallelism"])
        if size != pod_set.count or standing.template is not None:
            adds["parallelism"] = size
        adds["earlier"] = earlier
    return Rewriting(original, written)


def injected(flavors: Iterable[str], configuration: Configuration) -> Template:
    """What the flavors of a pod set add to its template: their node labels and their tolerations, each flavor once."""
    labels: dict[str, str] = {}
    tolerations: list[dict[str, Any]] = []
    for name in dict.fromkeys(flavors):
        flavor = configuration.flavors[name]
        labels.update(flavor.node_labels)
        tolerations += [item for item in tolerations_to_json(flavor.tolerations) if item not in tolerations]
    return {"nodeSelector": labels, "tolerations": tolerations}


def _earlier(name: str, earlier: Written | None) -> dict[str, list[Any]]:
    """What earlier runs may have left of one pod set."""
    last: Mapping[str, Any] = earlier.injected.get(name, {}) if earlier is not None else {}
    before = last.get("earlier", {})
    keys = {*last.get("nodeSelector", {}), *before.get("nodeSelector", ())}
    sizes = {*([last["parallelism"]] if "parallelism" in last else []), *before.get("parallelism", ())}
    return {"nodeSelector": sorted(keys), "parallelism": sorted(sizes)}


def _of_owner(pod_set: PodSet, standing: Standing, written: list[int]) -> Template:
    """What the owner has where an earlier run may have written."""
    kept = standing.earlier.original.get(pod_set.name) if standing.earlier is not None else None
    original: Template = dict(
        kept
        or standing.template
        or {"nodeSelector": dict(pod_set.node_selector), "tolerations": tolerations_to_json(pod_set.tolerations)}
    )
    stands = standing.template.get("parallelism") if standing.template is not None else None
    if stands is not None and stands not in written:
        original["parallelism"] = stands
    original.setdefault("parallelism", pod_set.count)
    return original


def start(action: Action, stamp: RunStamp, resource_version: str) -> patches.Patch:
    """The PATCH that starts a Job at its size on the nodes of its flavors; what earlier runs may have left of others goes."""
    original, added = action.original.get(POD_SET, {}), action.injected.get(POD_SET, {})
    own = original.get("nodeSelector", {})
    selector: dict[str, str | None] = {key: own.get(key) for key in added.get("earlier", {}).get("nodeSelector", ())}
    tolerations = _tolerations(added)
    return patches.unsuspend(
        uid=action.uid,
        resource_version=resource_version,
        stamp=stamp,
        node_selector_to_add={**selector, **added.get("nodeSelector", {})},
        tolerations_union=union(_tolerations(original), tolerations) if tolerations else (),
        parallelism=added.get("parallelism"),
    )


def claim(action: Action, stamp: RunStamp, resource_version: str) -> patches.Patch:
    """The PATCH that makes a Job ours that somebody else unsuspended: it runs at the size that has quota."""
    return patches.claim(action.uid, resource_version, stamp, parallelism=action.injected.get(POD_SET, {}).get("parallelism"))


def restoration(action: Action, seen: Observation) -> patches.Patch:
    """The PATCH that gives a Job back what its owner had. An adopted run wrote nothing to it, and nobody kept what it was."""
    original, added = action.original.get(POD_SET), action.injected.get(POD_SET, {})
    if original is None:
        return patches.let_go(action.uid, seen.resource_version)
    earlier = added.get("earlier", {})
    sizes = [added.get("parallelism"), *earlier.get("parallelism", ())]
    return patches.restore(
        uid=action.uid,
        resource_version=seen.resource_version,
        node_selector=original["nodeSelector"],
        injected_keys=list({**added.get("nodeSelector", {}), **dict.fromkeys(earlier.get("nodeSelector", ()))}),
        tolerations=_tolerations(original),
        parallelism=original.get("parallelism") if seen.parallelism in sizes else None,
    )


def _tolerations(template: Mapping[str, Any]) -> list[Toleration]:
    return [toleration_from_wire(wire) for wire in template.get("tolerations", ())]
