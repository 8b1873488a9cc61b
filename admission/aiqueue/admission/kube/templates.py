"""Where the pods of a template may run: node selector, tolerations and required node affinity, to records and back."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import asdict
from typing import Any

import msgspec

from aiqueue.admission.kube import kinds, objects
from aiqueue.queue.records import NodeRequirement, Toleration

MAX_TEXT = 1024


def clean(text: str) -> str:
    """Text that any store takes: at most `MAX_TEXT` characters, control characters and lone surrogates shown as `?`.

    Label values and names are validated by the API server; annotations, owner references and old affinity values are not.
    """
    shortened = text if len(text) <= MAX_TEXT else text[: MAX_TEXT - 1] + "…"
    if shortened.isprintable():
        return shortened
    return "".join(letter if letter.isprintable() else "?" for letter in shortened)


def scheduling_of(spec: objects.PodSpec, of_class: kinds.Scheduling | None) -> tuple[dict[str, str], tuple[Toleration, ...]]:
    """Node selector and tolerations that pods of a template will have, with those that their RuntimeClass adds."""
    own = {clean(key): clean(value) for key, value in (spec.node_selector or {}).items()}
    if of_class is None:
        return own, tolerations_of(spec.tolerations)
    added = {clean(key): clean(value) for key, value in (of_class.node_selector or {}).items()}
    return added | own, union(tolerations_of(spec.tolerations), tolerations_of(of_class.tolerations))


def tolerations_of(written: Iterable[objects.Toleration] | None) -> tuple[Toleration, ...]:
    """Tolerations as records, an operator left out read as the Equal that it means."""
    return tuple(
        Toleration(
            key=clean(toleration.key),
            operator=clean(toleration.operator) or "Equal",
            value=clean(toleration.value),
            effect=clean(toleration.effect),
            toleration_seconds=toleration.toleration_seconds,
        )
        for toleration in written or ()
    )


def affinity_terms_of(spec: objects.PodSpec) -> tuple[tuple[NodeRequirement, ...], ...]:
    """Required node affinity as a disjunction of conjunctions; empty where any node will do.

    A term without requirements matches no node and is left out, unless it is the only kind there is: then one impossible
    requirement stands for them all. `matchFields` (only `metadata.name` exists) becomes a requirement on that key, which no
    flavor's labels hold.
    """
    if spec.affinity is None or spec.affinity.node_affinity is None or spec.affinity.node_affinity.required is None:
        return ()
    terms: list[tuple[NodeRequirement, ...]] = []
    for term in spec.affinity.node_affinity.required.node_selector_terms or ():
        requirements = (*(term.match_expressions or ()), *(term.match_fields or ()))
        if requirements:
            terms.append(tuple(_requirement(requirement) for requirement in requirements))
    return tuple(terms) or ((NodeRequirement("metadata.name", "In", ()),),)


def _requirement(requirement: objects.NodeSelectorRequirement) -> NodeRequirement:
    return NodeRequirement(
        clean(requirement.key), clean(requirement.operator), tuple(clean(value) for value in requirement.values or ())
    )


def toleration_to_wire(toleration: Toleration) -> dict[str, Any]:
    """A toleration in core/v1's form; empty fields are left out, as the API server stores them."""
    wire: dict[str, Any] = msgspec.to_builtins(objects.Toleration(**asdict(toleration)))
    return wire


def toleration_from_wire(wire: Mapping[str, Any]) -> Toleration:
    """Inverse of `toleration_to_wire`: an operator left out stays "" so that it goes back as it came."""
    return Toleration(**msgspec.structs.asdict(msgspec.convert(wire, objects.Toleration)))


def union(original: Iterable[Toleration], added: Iterable[Toleration]) -> tuple[Toleration, ...]:
    """`original` unchanged and in order, then what of `added` says something new."""
    result = list(original)
    said = {meaning(toleration) for toleration in result}
    for toleration in added:
        if meaning(toleration) not in said:
            said.add(meaning(toleration))
            result.append(toleration)
    return tuple(result)


def meaning(toleration: Toleration) -> tuple[str, str, str, str, int | None]:
    """What a toleration says, however it is written: no operator is Equal."""
    return (
        toleration.key,
        toleration.operator or "Equal",
        toleration.value,
        toleration.effect,
        toleration.toleration_seconds,
    )
