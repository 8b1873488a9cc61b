"""How tenants stand towards their siblings, as the engine sees it: what they borrow, and their share of what can be lent."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from fractions import Fraction

from aiqueue.admission.engine.shares import share_of
from aiqueue.admission.engine.tree import Pair, build_tree
from aiqueue.queue.store.views import TenantView


@dataclass(frozen=True, slots=True)
class Standing:
    """One tenant with all below it.

    Attributes:
        borrowed: what is used beyond what the tenant and those below it put in, by (flavor, resource); what a root uses beyond
            its quota is nobody's to lend, so it borrows nothing.
        share: of what could be lent, by weight, as it stands; None is infinite (weight 0).
    """

    borrowed: Mapping[Pair, int]
    share: Fraction | None


def standings(views: Iterable[TenantView]) -> dict[str, Standing]:
    """By name, of all tenants that there are. What a Strict head holds back for itself is not in it."""
    every = list(views)
    nodes = build_tree({view.record.name: view.record for view in every})
    for view in every:
        for pair, amount in view.own_used.items():
            nodes[view.record.name].cell(pair).add(amount)
    return {
        name: Standing(
            {
                pair: cell.usage - cell.subtree
                for pair, cell in node.cells.items()
                if cell.parent is not None and cell.usage > cell.subtree
            },
            share_of(node),
        )
        for name, node in nodes.items()
    }
