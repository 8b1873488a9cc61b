"""Free loopback ports.

A port that was free a moment ago may be taken when the program binds it, so whoever uses these
must be ready to ask again; `cluster` and `postgres` both retry with fresh ports.
"""

from __future__ import annotations

import socket
from collections.abc import Sequence
from contextlib import ExitStack

LOOPBACK = "127.0.0.1"


def is_free(port: int) -> bool:
    """Whether a program could listen on this loopback port now."""
    with socket.socket() as probe:
        # As Go and Postgres do: a connection in TIME_WAIT is no obstacle, a listener is.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((LOOPBACK, port))
        except OSError:
            return False
    return True


def choose(count: int, preferred: Sequence[int] = ()) -> list[int]:
    """Return `count` different free ports.

    Args:
        count: how many.
        preferred: the ports of last time, taken again if all of them are free, so that addresses in
            people's shells stay true over a restart.
    """
    if len(preferred) == count and all(is_free(port) for port in preferred):
        return list(preferred)
    with ExitStack() as held:
        # Held together, so that no two are the same.
        sockets = [held.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind((LOOPBACK, 0))
        return [int(each.getsockname()[1]) for each in sockets]
