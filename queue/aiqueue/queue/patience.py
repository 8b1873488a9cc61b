"""A session with Postgres that does not wait for ever.

The server's own timeouts end what takes long, as long as the server and all that lies between are alive to say so. A backend that is
stopped or stuck in its disk, a pooler or a proxy that forwards nothing more: their TCP connections live, keepalives are answered, and
libpq would wait for as long as they like. A `Patient` gives up: it closes the session and raises what a lost connection raises. What
the server made of the statement is then unknown, as it is after any lost connection.
"""

from __future__ import annotations

from typing import Any, Self, TypeVar

import psycopg
from psycopg.abc import PQGen

T = TypeVar("T")

#: By so much we wait longer than the server was told to let a statement take.
PATIENCE_SECONDS = 5.0


class Patient(psycopg.Connection[Any]):
    """A session whose every wait for an answer ends, by the local monotonic clock.

    Attributes:
        patience_seconds: how long it waits for each answer.
    """

    patience_seconds: float = PATIENCE_SECONDS
    _allowed_seconds: float | None = None

    @classmethod
    def to(cls, *arguments: Any, patience_seconds: float, **options: Any) -> Self:
        """Connect, with this patience for each answer.

        Raises:
            psycopg.OperationalError: the server cannot be reached, refuses, or does not answer.
        """
        made = cls.connect(*arguments, **options)
        made.patience_seconds = patience_seconds
        return made

    def allow_seconds(self, seconds: float) -> None:
        """Wait so long for each answer until the transaction ends."""
        self._allowed_seconds = seconds

    def wait(self, gen: PQGen[T], interval: float = 0.1, timeout: float | None = None) -> T:
        """Wait for the server, but no longer than patience lasts.

        Raises:
            psycopg.OperationalError: it did not answer; the session is closed.
        """
        if timeout is not None:  # the caller's own deadline, which is no failure
            return super().wait(gen, interval, timeout)
        seconds = self._allowed_seconds or self.patience_seconds
        try:
            return super().wait(gen, interval, seconds)
        except psycopg.errors._WaitTimeout as error:  # noqa: SLF001 -- the driver has no other name for it
            self.pgconn.finish()
            raise psycopg.OperationalError(f"no answer within {seconds:g} s: the session was given up") from error

    def commit(self) -> None:
        """Commit; patience is as before."""
        try:
            super().commit()
        finally:
            self._allowed_seconds = None

    def rollback(self) -> None:
        """Roll back; patience is as before."""
        try:
            super().rollback()
        finally:
            self._allowed_seconds = None
