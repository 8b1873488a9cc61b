"""Where the harness keeps things: the XDG folders, each with a sub-folder `aiqueue`."""

from __future__ import annotations

import fcntl
import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

#: The lock of a folder of the harness.
LOCK = ".lock"


def _xdg(variable: str, default: str) -> Path:
    value = os.environ.get(variable, "")
    # The specification says a relative path is to be ignored.
    base = Path(value) if value.startswith("/") else Path.home() / default
    return base / "aiqueue"


def cache_folder() -> Path:
    """Things that can be built again: programs, module downloads."""
    return _xdg("XDG_CACHE_HOME", ".cache")


def state_folder() -> Path:
    """Clusters, logs and the list of running instances."""
    return _xdg("XDG_STATE_HOME", ".local/state")


def data_folder() -> Path:
    """The database of `aiqueue dev`."""
    return _xdg("XDG_DATA_HOME", ".local/share")


@contextmanager
def locked(path: Path, on_wait: Callable[[], None] | None = None) -> Iterator[None]:
    """Hold an exclusive lock on a file while the block runs; waits for whoever holds it.

    The lock goes with the process, however it ends, so a crash leaves nothing to clean.

    Args:
        path: the file, made if need be.
        on_wait: called once if somebody holds it, before waiting.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with path.open("a") as handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            if on_wait is not None:
                on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield


def write_private(path: Path, content: str | bytes) -> None:
    """Write a file that only its owner can read (mode 0600), replacing it in one step."""
    data = content.encode() if isinstance(content, str) else content
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as handle:
        handle.write(data)
    temporary.replace(path)
