"""What queues have used, folded where runs open and close, as the ledger folds it."""

from __future__ import annotations

from collections.abc import Mapping

from aiqueue.admission.simulate.scenario import Scenario, moment
from aiqueue.queue.records import Queue, Tenant
from aiqueue.queue.usage import Usage, folded
from aiqueue.queue.words import OrderKey

UsageKey = tuple[str, str, str]  # namespace, queue, resource


class Usages:
    """Usage by queue and resource. `decide`: whether it decides anything in a scenario; else there is no need to keep it."""

    def __init__(self, scenario: Scenario) -> None:
        self.decide = _usage_decides(scenario)
        self._known: dict[UsageKey, Usage] = {}
        self._moved: dict[UsageKey, Usage] = {}

    def fold(self, queue: tuple[str, str], amounts: Mapping[str, int], now_us: int, tenant: Tenant) -> None:
        """A queue, by namespace and name, holds so much more from now on, or less where amounts are negative."""
        now = moment(now_us)
        for resource, amount in amounts.items():
            key = (*queue, resource)
            usage = folded(self._known.get(key), now, amount, tenant.usage_half_life_seconds)
            self._known[key] = self._moved[key] = usage

    def moved(self) -> dict[UsageKey, Usage]:
        """What was folded since this was asked last."""
        moved, self._moved = self._moved, {}
        return moved


def _usage_decides(scenario: Scenario) -> bool:
    """Whether what a queue used ever decides anything: a tenant that orders by it has, at some time, more queues than one."""
    feeding: dict[str, set[tuple[str, str]]] = {}
    ordering = set[str]()
    for edit in scenario.edits:
        for record in edit.records:
            if isinstance(record, Queue):
                feeding.setdefault(record.tenant, set()).add((record.namespace, record.name))
            elif isinstance(record, Tenant) and OrderKey.USAGE in record.order:
                ordering.add(record.name)
    return any(len(feeding.get(name, ())) > 1 for name in ordering)
