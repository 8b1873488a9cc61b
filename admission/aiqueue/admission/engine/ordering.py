"""Where the queues of a tenant stand by what they used, and when that will change by itself.

What a queue used decays and grows all the time, so the order of two queues may turn over with nothing happening. Only their order
matters, so queues are numbered by it: work is moved in its line only when a number changes.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from aiqueue.admission.engine.buckets import Line
from aiqueue.admission.engine.instants import SECOND, moment
from aiqueue.queue.records import Configuration
from aiqueue.queue.usage import Usage, normalised, totals_of_trees

QueueName = tuple[str, str]  # namespace, name
HORIZON_SECONDS = 1 << 22  # seven weeks: nobody waits for an order that turns over later


class QueueOrder:
    """What queues used, and their order by it."""

    def __init__(self) -> None:
        self._used: dict[QueueName, dict[str, Usage]] = {}
        self._configuration = Configuration(0)
        self._totals: Mapping[str, Mapping[str, int]] = {}

    def configure(self, configuration: Configuration) -> None:
        """Take over weights, and what each tree has."""
        self._configuration = configuration
        self._totals = totals_of_trees(configuration.tenants)

    def learn(self, usages: Mapping[tuple[str, str, str], Usage]) -> set[QueueName]:
        """Replace what is known; answers the queues it was about."""
        for (namespace, name, resource), usage in usages.items():
            self._used.setdefault((namespace, name), {})[resource] = usage
        return {key[:2] for key in usages}

    def numbers(self, tenant: str, queues: Iterable[QueueName], clock: int) -> dict[QueueName, int]:
        """Number the queues of a tenant from 0, who used least first, equals alike.

        Args:
            tenant: that they feed.
            queues: to number.
            clock: microseconds since 1970.
        """
        record, totals, now = self._configuration.tenants[tenant], self._totals[tenant], moment(clock)
        used = {
            name: normalised(
                self._used.get(name, {}),
                totals=totals,
                weights=record.usage_weights,
                queue_weight=self._configuration.queues[name].weight,
                moment=now,
            )
            for name in queues
        }
        places = {amount: place for place, amount in enumerate(sorted(set(used.values())))}
        return {name: places[amount] for name, amount in used.items()}

    def turns_over_at(self, line: Line, clock: int) -> int | None:
        """The next whole second, as microseconds since 1970, at which the queues of a line stand otherwise than now.

        Each two queues change places at most once while nothing happens, since their usages decay towards what they hold at one
        and the same pace; so the first change is found by halving.
        """
        if not any(name in self._used for name in line.queues):
            return None
        before, step = clock // SECOND, 1
        while not self._differs(line, before + step):
            step *= 2
            if step > HORIZON_SECONDS:
                return None
        after = before + step
        before += step // 2
        while after - before > 1:
            middle = (before + after) // 2
            if self._differs(line, middle):
                after = middle
            else:
                before = middle
        return after * SECOND

    def _differs(self, line: Line, second: int) -> bool:
        return self.numbers(line.name, line.queues, second * SECOND) != line.usage_rank
