"""A fixed number of threads that share one loop and one condition, and end together."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable


class Workers:
    """Threads that run `loop` until it returns. The loop ends when it sees `stopping`, which is guarded by `condition`."""

    def __init__(self, name: str, count: int, loop: Callable[[], None]) -> None:
        self.condition = threading.Condition()
        self.stopping = False
        self._threads = [threading.Thread(target=loop, name=f"{name}-{n}", daemon=True) for n in range(count)]

    def start(self) -> None:
        """Start every thread."""
        for thread in self._threads:
            thread.start()

    def stop(self, timeout_seconds: float = 5.0) -> None:
        """Let nothing new be begun and wait, all in all so long, for what is being done. Threads never started are left."""
        with self.condition:
            self.stopping = True
            self.condition.notify_all()
        deadline = time.monotonic() + timeout_seconds
        for thread in self._threads:
            if thread.ident is not None:
                thread.join(timeout=max(0.0, deadline - time.monotonic()))
