"""Whether pods may run on the nodes of a flavor: taints, node selector, required node affinity.

A flavor is looked at as one node with the flavor's labels and taints. It says nothing about labels it does not carry, so
selectors and affinity are restricted to its own label keys; the scheduler decides on the rest.
"""

from __future__ import annotations

from aiqueue.queue.records import Flavor, NodeRequirement, PodSet, Taint, Toleration

_REPELLING = ("NoSchedule", "NoExecute")  # PreferNoSchedule repels nobody


def mismatch(flavor: Flavor, pod_set: PodSet) -> str | None:
    """Why the pods may not run on the flavor, as a phrase, or None where they may."""
    tolerations = (*pod_set.tolerations, *flavor.tolerations)
    for taint in flavor.node_taints:
        if taint.effect in _REPELLING and not any(_tolerates(toleration, taint) for toleration in tolerations):
            value = f"={taint.value}" if taint.value else ""
            return f"taint {taint.key}{value}:{taint.effect} is not tolerated"
    for key in sorted(pod_set.node_selector):
        if key in flavor.node_labels and flavor.node_labels[key] != pod_set.node_selector[key]:
            return f"node selector {key}={pod_set.node_selector[key]} does not match {flavor.node_labels[key]}"
    if pod_set.affinity_terms and not any(_term_matches(flavor, term) for term in pod_set.affinity_terms):
        return f"required node affinity does not match: {_describe(flavor, pod_set)}"
    return None


def _tolerates(toleration: Toleration, taint: Taint) -> bool:
    if toleration.effect not in ("", taint.effect):
        return False
    if toleration.operator == "Exists":
        return toleration.key in ("", taint.key)
    return toleration.operator in ("", "Equal") and toleration.key == taint.key and toleration.value == taint.value


def _term_matches(flavor: Flavor, term: tuple[NodeRequirement, ...]) -> bool:
    return all(_meets(flavor.node_labels[each.key], each) for each in term if each.key in flavor.node_labels)


def _meets(label: str, requirement: NodeRequirement) -> bool:
    """Whether a label that the flavor carries meets a requirement on its key."""
    match requirement.operator:
        case "In":
            return label in requirement.values
        case "NotIn":
            return label not in requirement.values
        case "Exists":
            return True
        case "Gt" | "Lt":
            try:
                bound, number = int(requirement.values[0]), int(label)
            except (ValueError, IndexError):
                return False  # as the scheduler: what is no number matches nothing
            return number > bound if requirement.operator == "Gt" else number < bound
        case _:
            return False  # DoesNotExist, for the label is there; the API server lets no other operator through


def _describe(flavor: Flavor, pod_set: PodSet) -> str:
    """The first requirement of the first term that fails, as text."""
    for each in pod_set.affinity_terms[0]:
        if each.key in flavor.node_labels and not _meets(flavor.node_labels[each.key], each):
            values = f" {', '.join(each.values)}" if each.values else ""
            return f"{each.key} {each.operator}{values}, and it is {flavor.node_labels[each.key]}"
    return "no term of it"
