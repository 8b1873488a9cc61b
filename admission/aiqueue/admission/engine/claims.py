"""Claims: room that is being vacated belongs to who had it vacated, until it is admitted, gone, or wants it no longer.

While a claim stands there are two usages in its tree (`tree.py`). As agreed, the claim is counted and the runs it waits for are
not; actually it is the other way round. The cells of a (flavor, resource) pair are kept apart as long as some claim, or some run
that one waits for, makes them differ, and no longer.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping

from aiqueue.admission.engine.instants import micros
from aiqueue.admission.engine.routes import Route
from aiqueue.admission.engine.runs import OpenRun, Runs, Takes, takes_of
from aiqueue.admission.engine.tree import Cell, Pair, TenantNode
from aiqueue.queue.records import Allocation, Claim, Workload


class HeldClaim:
    """A claim that stands. Its takes are counted in the agreed usage, and the runs it waits for are not."""

    __slots__ = ("claim", "claimed_us", "node", "takes", "workload")

    def __init__(self, claim: Claim, workload: Workload, node: TenantNode, takes: Takes) -> None:
        self.claim = claim
        self.workload = workload
        self.node = node
        self.takes = takes
        self.claimed_us = micros(claim.claimed_at)


class Claims:
    """Claims that stand, by workload.

    Args:
        runs: what they wait for.
        wake: has those looked at again that are parked on cells which are no longer apart.

    Attributes:
        lapsed: workloads whose claim ended for something that happened, still to be told by a Plan.
    """

    def __init__(self, runs: Runs, wake: Callable[[Iterable[Cell]], None]) -> None:
        self.of_workload: dict[int, HeldClaim] = {}
        self.lapsed: dict[int, None] = {}
        self._runs = runs
        self._wake = wake
        self._nodes: Mapping[str, TenantNode] = {}
        self._apart: dict[Cell, int] = {}  # by the cell at the root, how many claims and awaited runs make its tree differ

    def awaited(self, held: HeldClaim) -> Iterator[OpenRun]:
        """The runs that a claim waits for and that are still open."""
        for run_id in held.claim.run_ids:
            run = self._runs.open.get(run_id)
            if run is not None and run.claimant == held.workload.id:
                yield run

    def make(self, held: HeldClaim) -> None:
        """Let a claim stand; the inverse is `end`."""
        workload_id = held.workload.id
        self._differ(held.takes)
        for run_id in held.claim.run_ids:
            run = self._runs.open.get(run_id)
            if run is not None and run.claimant is None:
                self._differ(run.takes)
                run.claimant = workload_id
                for cell, amount in run.takes:
                    cell.remove(amount)
        for cell, amount in held.takes:
            cell.add(amount)
        self.of_workload[workload_id] = held
        self._moved(held)

    def end(self, held: HeldClaim) -> None:
        """Let a claim stand no longer. What it still waits for counts again as agreed."""
        workload_id = held.workload.id
        for cell, amount in held.takes:
            cell.remove(amount)
        awaited = list(self.awaited(held))
        for run in awaited:
            run.claimant = None
            for cell, amount in run.takes:
                cell.add(amount)
        del self.of_workload[workload_id]
        for run in awaited:
            self._agree(run.takes)
        self._agree(held.takes)
        self._moved(held)

    def closed(self, run: OpenRun) -> HeldClaim | None:
        """A run is closed; answers the claim that waited for it."""
        if run.claimant is None:
            return None
        self._agree(run.takes)
        return self.of_workload.get(run.claimant)

    def resize(self, run: OpenRun, allocations: tuple[Allocation, ...]) -> tuple[HeldClaim | None, list[Cell]]:
        """Let an open run hold these; answers the claim that waits for it, made anew, and the cells whose usage fell or moved."""
        held = self.of_workload.get(run.claimant) if run.claimant is not None else None
        if held is not None:
            self.end(held)
        _, cells = self._runs.close(run.run_id) or (run, [])
        run.allocations = allocations
        self._runs.enter(run, self._nodes)
        if held is not None:
            self.make(held)
        return held, cells

    def lapse(self, workload_id: int) -> HeldClaim | None:
        """End the claim of a workload for good because of something that happened; answers it."""
        held = self.of_workload.get(workload_id)
        if held is not None:
            self.end(held)
            self.lapsed[workload_id] = None
        return held

    def in_tree(self, root: TenantNode) -> list[HeldClaim]:
        """The claims of one tree, the oldest first."""
        found = [held for held in self.of_workload.values() if held.node.root is root]
        return sorted(found, key=lambda held: (held.claimed_us, held.workload.id))

    def rebind(self, nodes: Mapping[str, TenantNode], route_of: Callable[[int], Route]) -> list[int]:
        """Make claims again over a tree that was built anew and in which all runs are charged.

        Answers the workloads whose claim ended, since `route_of` leads them to another tenant or to none.
        """
        self._nodes = nodes
        known = list(self.of_workload.values())
        self.of_workload.clear()
        self._apart.clear()
        ended: list[int] = []
        for held in known:
            route = route_of(held.workload.id)
            if route.node is None or route.node.name != held.claim.tenant:
                self.lapsed[held.workload.id] = None
                ended.append(held.workload.id)
            else:
                self.make(hold(held.claim, held.workload, route.node))
        return ended

    # What is apart.

    def _differ(self, takes: Takes) -> None:
        """One more makes the trees of these cells differ."""
        for leaf, _ in takes:
            top = _top(leaf)
            count = self._apart.get(top, 0)
            self._apart[top] = count + 1
            if not count:
                for cell in self._tree(top):
                    cell.part()

    def _agree(self, takes: Takes) -> None:
        """One less does."""
        for leaf, _ in takes:
            top = _top(leaf)
            self._apart[top] -= 1
            if self._apart[top]:
                continue
            del self._apart[top]
            parted: list[Cell] = []
            for cell in self._tree(top):
                if cell.actual is not None:
                    parted.append(cell.actual)
                    cell.actual = None
            self._wake(parted)

    def _tree(self, top: Cell) -> Iterator[Cell]:
        """All cells of a pair in a tree, each after the one above it."""
        pair: Pair = (top.flavor, top.resource)
        for node in self._nodes[top.tenant].under():
            cell = node.cells.get(pair)
            if cell is not None:
                yield cell

    def _moved(self, held: HeldClaim) -> None:
        self._runs.moved[held.node.root.name] = None


def hold(claim: Claim, workload: Workload, node: TenantNode) -> HeldClaim:
    """A claim of a workload on the cells of its tenant."""
    return HeldClaim(claim, workload, node, takes_of(node, claim.allocations))


def _top(cell: Cell) -> Cell:
    while cell.parent is not None:
        cell = cell.parent
    return cell
