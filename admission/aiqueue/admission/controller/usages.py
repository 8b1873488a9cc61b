"""What the engine was told of decayed usage."""

from __future__ import annotations

from collections.abc import Mapping

from aiqueue.admission.engine.engine import Engine
from aiqueue.admission.engine.events import UsageMoved
from aiqueue.queue.store.usage import UsageKey
from aiqueue.queue.usage import Usage, first_use


class ToldUsages:
    """Tells an engine what the ledger folded, and remembers it.

    Telling twice changes nothing: each key is replaced. Whatever leaves a doubt ends in an engine built anew, which is told `whole`.
    """

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.known: dict[UsageKey, Usage] = {}

    def moved(self, usages: Mapping[UsageKey, Usage]) -> None:
        """A transaction folded these, and is committed."""
        if usages:
            self.known.update(usages)
            self._engine.observe(UsageMoved(usages))

    def whole(self, usages: Mapping[UsageKey, Usage]) -> None:
        """The ledger holds these and no others: the rest went with its queue, and one made anew by that name used nothing."""
        gone = {
            key: first_use(usage.as_of, 0, usage.half_life_seconds) for key, usage in self.known.items() if key not in usages
        }
        changed = {key: usage for key, usage in usages.items() if self.known.get(key) != usage}
        self.known = dict(usages)
        if changed or gone:
            self._engine.observe(UsageMoved(changed | gone))

    def agrees(self, usages: Mapping[UsageKey, Usage]) -> bool:
        """Whether the engine knows all that the ledger holds, just so. What went with its queue is told when that is heard of."""
        return all(self.known.get(key) == usage for key, usage in usages.items())
