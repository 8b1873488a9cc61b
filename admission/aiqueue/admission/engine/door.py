"""What can be said of work from the configuration alone, before it is anywhere in the ledger.

The door asks the same functions as the engine, so what it says is word for word what the engine would say of the workload if it
were stored. Two things differ. A closed tenant refuses nobody, since it opens again: it is told apart (`closed_tenant`). And
nothing that rests on what is used at the moment is said at all.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from aiqueue.admission.engine import reasons
from aiqueue.admission.engine.flavors import needs_of
from aiqueue.admission.engine.routes import Route, class_of, route_of
from aiqueue.admission.engine.sizes import smallest
from aiqueue.admission.engine.tree import build_tree
from aiqueue.queue.records import Class, Configuration, Decision, PodSet, shape_of

MAX_REMEMBERED = 4096  # routes, and verdicts on shapes, each


@dataclass(frozen=True, slots=True)
class _Asking:
    """Who stands at the door; see `routes.Asking`."""

    namespace: str
    queue_name: str
    class_name: str | None


class Door:
    """One configuration, ready to be asked. Build it once for each: making the tree is what costs.

    May be asked by several threads at once: all it changes are memories of what it worked out before.
    """

    def __init__(self, configuration: Configuration) -> None:
        self.configuration = configuration
        self._nodes = build_tree(configuration.tenants)
        self._routes: dict[_Asking, Route] = {}
        self._shapes: dict[tuple[str, str], tuple[Decision | None]] = {}
        self._queues: dict[str, list[str]] = {}
        for namespace, name in sorted(configuration.queues):
            self._queues.setdefault(namespace, []).append(name)

    def refusal(
        self, namespace: str, queue_name: str, class_name: str | None, pod_sets: Sequence[PodSet], *, shape: str | None = None
    ) -> Decision | None:
        """Why such work could never be admitted as things are configured: the engine's own verdict, or None where it could.

        The reason is QueueNotFound, QueueClosed, ClassNotAllowed, ResourceNotCovered, NoMatchingFlavor or ExceedsCeiling.

        Args:
            namespace: where it is submitted.
            queue_name: the queue it names.
            class_name: the class it names; None for the queue's default.
            pod_sets: judged at the least size that they make do with.
            shape: what the same pod sets and class always come with and no others do, where the caller has such a name.
        """
        route = self._route(namespace, queue_name, class_name)
        refusal = route.door or route.class_refused
        if refusal is not None:
            return Decision(*refusal, tenant=route.node.name if route.node is not None else None)
        if route.node is None:  # then it has a `door`, so this is for the type checker and for whoever changes that
            return None
        key = (route.node.name, shape or shape_of(pod_sets, class_name))
        known = self._shapes.get(key)
        if known is not None:
            return known[0]
        needs = needs_of(route.node, self.configuration.flavors, smallest(pod_sets), key[1])
        verdict = needs if isinstance(needs, Decision) else None
        if len(self._shapes) >= MAX_REMEMBERED:
            self._shapes.clear()
        self._shapes[key] = (verdict,)
        return verdict

    def closed_tenant(self, namespace: str, queue_name: str) -> str | None:
        """The sentence on the tenant behind the queue that takes no work now, this or one above; None where all do."""
        closer = self._route(namespace, queue_name, None).closed_by
        if closer is None:
            return None
        return reasons.tenant_closed("", "", closer.name, closer.record.state, closer.fault).message

    def effective_class(self, namespace: str, queue_name: str, class_name: str | None) -> Class | None:
        """The class in effect: its own, else the queue's default, else the built-in one; None where there is no such class."""
        return class_of(self.configuration, _Asking(namespace, queue_name, class_name))

    def queues_of(self, namespace: str) -> Sequence[str]:
        """The names of a namespace's queues, sorted."""
        return self._queues.get(namespace, ())

    def _route(self, namespace: str, queue_name: str, class_name: str | None) -> Route:
        asking = _Asking(namespace, queue_name, class_name)
        route = self._routes.get(asking)
        if route is None:
            route = route_of(self.configuration, self._nodes, asking)
            if len(self._routes) >= MAX_REMEMBERED:
                self._routes.clear()
            self._routes[asking] = route
        return route
