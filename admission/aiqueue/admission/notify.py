"""Hears of configuration changes by NOTIFY, on a session of its own. A hint only: whoever listens asks regularly anyway.

A session that is never asked anything would not notice that it hears nothing any more, so it is asked now and then.
"""

from __future__ import annotations

import random
import threading
import time
from collections.abc import Callable

import psycopg
import structlog

from aiqueue.admission.backoff import Backoff
from aiqueue.queue.database import KEEPALIVES, conninfo, explained
from aiqueue.queue.patience import PATIENCE_SECONDS, Patient
from aiqueue.queue.store.configuration import CHANNEL

_log = structlog.get_logger()
_POLL_SECONDS = 1.0
_MOST_PAUSE_SECONDS = 30.0
_ASK_SECONDS = 15.0
_CONNECT_TIMEOUT_SECONDS = 5


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
                with Patient.to(
                    self._conninfo,
                    patience_seconds=PATIENCE_SECONDS,
                    autocommit=True,
                    **KEEPALIVES,
                    connect_timeout=_CONNECT_TIMEOUT_SECONDS,
                    application_name=self._application_name,
                ) as session:
                    session.execute(f"LISTEN {CHANNEL}")
                    self._hear(session, backoff)
            except psycopg.Error as error:
                _log.warning("not listening for configuration changes", error=explained(error))
                self._stop.wait(backoff.failed())

    def _hear(self, session: Patient, backoff: Backoff) -> None:
        """Call `wake` at each notification, until stopped or the session fails."""
        asked_at = time.monotonic()
        while not self._stop.is_set():
            for _ in session.notifies(timeout=_POLL_SECONDS, stop_after=1):
                self._wake()
            if time.monotonic() - asked_at >= _ASK_SECONDS:
                asked_at = time.monotonic()
                session.execute("SELECT 1")
            backoff.reset()  # not before it has held for a while: a server that ends each session at once is not well
