"""Five trees of six tenants, each leaf fed by a queue of its own."""

from __future__ import annotations

from dataclasses import dataclass

TREES = 5
LEAVES = 6


@dataclass(frozen=True, slots=True)
class Place:
    """A leaf tenant and its door."""

    tree: int
    leaf: int

    @property
    def root(self) -> str:
        """The tenant above it."""
        return f"tree-{self.tree}"

    @property
    def tenant(self) -> str:
        return f"tree-{self.tree}-{self.leaf}"

    @property
    def namespace(self) -> str:
        return f"team-{self.tree}"

    @property
    def queue(self) -> str:
        return f"queue-{self.leaf}"


PLACES = tuple(Place(tree, leaf) for tree in range(TREES) for leaf in range(LEAVES))
ROOTS = tuple(f"tree-{tree}" for tree in range(TREES))
NAMESPACES = tuple(f"team-{tree}" for tree in range(TREES))
