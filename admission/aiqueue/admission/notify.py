"""Hears of configuration changes by NOTIFY, on a session of its own. A hint only: whoever listens asks regularly anyway."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable

import psycopg
import structlog

from aiqueue.admission.backoff import Backoff
from aiqueue.queue.database import conninfo, explained
from aiqueue.queue.store.configuration import CHANNEL

_log = structlog.get_logger()
_POLL_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 30.0


class Listener:
    """A thread that calls `wake` at each notification."""

    def __init__(self, url: str, wake: Callable[[], None], *, application_name: str) -> None:
        self._conninfo = conninfo(url)
        self._wake = wake
        self._application_name = application_name
        self._stop = threading.Event()
        self._thread = threading.Thread(target=self._listen, name="listen", daemon=True)

    def start(self) -> None:
        """Begin to listen."""
        self._thread.start()

    def stop(self) -> None:
        """Stop listening."""
        self._stop.set()
        self._thread.join(timeout=_POLL_SECONDS * 5)

    def _listen(self) -> None:
        backoff = Backoff(random.Random(), longest_seconds=_MOST_PAUSE_SECONDS)
        while not self._stop.is_set():
            try:
                with psycopg.connect(
                    self._conninfo, autocommit=True, connect_timeout=5, application_name=self._application_name
                ) as connection:
                    connection.execute(f"LISTEN {CHANNEL}")
                    backoff.reset()
                    while not self._stop.is_set():
                        for _ in connection.notifies(timeout=_POLL_SECONDS, stop_after=1):
                            self._wake()
            except psycopg.Error as error:
                _log.warning("not listening for configuration changes", error=explained(error))
                self._stop.wait(backoff.failed())
