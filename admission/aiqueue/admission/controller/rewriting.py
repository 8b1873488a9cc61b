"""What a run writes into its Job and what is put back: node selector, tolerations, and the size where it is not the whole.

The ledger keeps both with the run before anything is written (`Rewriting`), by pod set:

    original   nodeSelector, tolerations, parallelism of the owner
    injected   nodeSelector and tolerations of the flavors; parallelism, where the run sets it
               earlier: what runs before it may have left: {nodeSelector: values by key, tolerations, parallelism: sizes}

What is put back is worked out from what stands there then (`owners`), and only what stands there as a run wrote it is undone: what the
owner has written since, while the Job was suspended, is his and stays. Of one thing nobody can tell whose it is: what he writes in the
very words of the run counts as the run's.

A Job may be admitted again before what its last run wrote was taken back. Then `original` is what would have been put back. Such a run
always sets the size that it was admitted at, whatever stands there.

An adopted run wrote nothing. If the Job carries the stamp of an earlier run of this ledger, it takes over what is to be put back for
that one; else nothing is put back after it: a size that a lost ledger's run had set stays.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from typing import Any

from aiqueue.admission.engine.plan import Admission
from aiqueue.admission.kube import patches
from aiqueue.admission.kube.names import POD_SET
from aiqueue.admission.kube.templates import meaning, toleration_from_wire, union
from aiqueue.queue.observations import RunStamp
from aiqueue.queue.records import Configuration, PodSet, Toleration
from aiqueue.queue.store.actions import Action
from aiqueue.queue.store.codec import tolerations_to_json
from aiqueue.queue.store.written import Written

Template = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Standing:
    """A Job when it is admitted.

    Attributes:
        resource_version: where it stands like this; "" if it is not at hand.
        template: what stands there exactly (`jobs.template_of`), None if it is not at hand.
        pristine: whether that is known to be its owner's.
        earlier: what its last run found and wrote, where that may still be there.
    """

    template: Template | None = None
    pristine: bool = False
    earlier: Written | None = None
    resource_version: str = ""


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
        original[name] = _of_owner(pod_set, standing)
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


def owners(template: Mapping[str, Any], original: Mapping[str, Any], injected: Mapping[str, Any]) -> Template:
    """What of a template that stands there is its owner's, after a run that wrote into it; the order of what stays is kept.

    Args:
        template: `jobs.template_of` of the Job as it stands.
        original: what the owner had before the run.
        injected: what the run wrote, and what runs before it may have left.
    """
    wrote = _wrote(injected)
    selector = dict(template["nodeSelector"])
    own = original.get("nodeSelector", {})
    for key, values in wrote["nodeSelector"].items():
        if key not in selector or (values and selector[key] not in values):
            continue
        if key in own:
            selector[key] = own[key]
        else:
            del selector[key]
    his = {meaning(toleration) for toleration in _tolerations(original)}
    ours = {meaning(toleration) for toleration in _tolerations(wrote)} - his
    tolerations = [wire for wire in template["tolerations"] if meaning(toleration_from_wire(wire)) not in ours]
    size = template["parallelism"]
    return {
        "nodeSelector": selector,
        "tolerations": tolerations,
        "parallelism": original.get("parallelism", size) if size in wrote["parallelism"] else size,
    }


def _wrote(injected: Mapping[str, Any]) -> Template:
    """All that a run and those before it may have written: values by key, tolerations, sizes. No values stand for any."""
    before = injected.get("earlier", {})
    keys: Any = before.get("nodeSelector", {})
    values: dict[str, list[str]] = {key: list(keys[key]) if isinstance(keys, Mapping) else [] for key in keys}
    for key, value in injected.get("nodeSelector", {}).items():
        if key not in values:
            values[key] = [value]
        elif values[key] and value not in values[key]:
            values[key].append(value)
    tolerations = list(before.get("tolerations", ()))
    tolerations += [wire for wire in injected.get("tolerations", ()) if wire not in tolerations]
    sizes = {*([injected["parallelism"]] if "parallelism" in injected else []), *before.get("parallelism", ())}
    return {"nodeSelector": values, "tolerations": tolerations, "parallelism": sorted(sizes)}


def _earlier(name: str, earlier: Written | None) -> Template:
    """What earlier runs may have left of one pod set."""
    return _wrote(earlier.injected.get(name, {}) if earlier is not None else {})


def _of_owner(pod_set: PodSet, standing: Standing) -> Template:
    """What the owner has where an earlier run may have written."""
    kept = standing.earlier.original.get(pod_set.name) if standing.earlier is not None else None
    if standing.template is not None:
        if standing.earlier is None or kept is None:
            return standing.template
        return owners(standing.template, kept, standing.earlier.injected.get(pod_set.name, {}))
    original = dict(
        kept or {"nodeSelector": dict(pod_set.node_selector), "tolerations": tolerations_to_json(pod_set.tolerations)}
    )
    original.setdefault("parallelism", pod_set.count)
    return original


def found(action: Action, template: Template, *, pristine: bool) -> dict[str, Template]:
    """What the owner has of a Job that is yet to be started, as it stands now: the `original` that its run should have.

    `pristine` says that no run's stamp is on it.
    """
    if pristine:
        return {**action.original, POD_SET: template}
    left = {"earlier": action.injected.get(POD_SET, {}).get("earlier", {})}
    return {**action.original, POD_SET: owners(template, action.original.get(POD_SET, template), left)}


def start(action: Action, stamp: RunStamp, resource_version: str) -> patches.Patch:
    """The PATCH that starts a Job at its size on the nodes of its flavors; what earlier runs may have left of others goes."""
    original, added = action.original.get(POD_SET, {}), action.injected.get(POD_SET, {})
    own, before = original.get("nodeSelector", {}), added.get("earlier", {})
    selector: dict[str, str | None] = {key: own.get(key) for key in before.get("nodeSelector", ())}
    tolerations = _tolerations(added)
    rewritten = bool(tolerations or before.get("tolerations"))
    return patches.unsuspend(
        uid=action.uid,
        resource_version=resource_version,
        stamp=stamp,
        node_selector_to_add={**selector, **added.get("nodeSelector", {})},
        tolerations_union=union(_tolerations(original), tolerations) if rewritten else None,
        parallelism=added.get("parallelism"),
    )


def claim(action: Action, stamp: RunStamp, resource_version: str) -> patches.Patch:
    """The PATCH that makes a Job ours that somebody else unsuspended: it runs at the size that has quota."""
    return patches.claim(action.uid, resource_version, stamp, parallelism=action.injected.get(POD_SET, {}).get("parallelism"))


def restoration(action: Action, template: Template, resource_version: str) -> patches.Patch:
    """The PATCH that leaves of a Job what is its owner's. Where nobody kept what that was, only our annotations go."""
    original = action.original.get(POD_SET)
    if original is None:
        return patches.let_go(action.uid, resource_version)
    target = owners(template, original, action.injected.get(POD_SET, {}))
    stands, wanted = template["nodeSelector"], target["nodeSelector"]
    return patches.restore(
        uid=action.uid,
        resource_version=resource_version,
        node_selector={key: wanted.get(key) for key in stands if wanted.get(key) != stands[key]},
        tolerations=_tolerations(target) if target["tolerations"] != template["tolerations"] else None,
        parallelism=target["parallelism"] if target["parallelism"] != template["parallelism"] else None,
    )


def _tolerations(template: Mapping[str, Any]) -> list[Toleration]:
    return [toleration_from_wire(wire) for wire in template.get("tolerations", ())]
