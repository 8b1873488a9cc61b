"""Certificates in a folder: for the local environment, and for a webhook outside a cluster."""

from __future__ import annotations

import contextlib
import fcntl
import os
import secrets
from collections.abc import Iterator, Sequence
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from aiqueue.admission.certificates import material
from aiqueue.admission.certificates.material import Material
from aiqueue.queue.errors import AiqueueError

LOCK = ".certificates.lock"
#: More than any material takes to be in order: new authority, published, signed, shorter bundle.
MOST_STEPS = 12
#: An authority is written before what it signed, and a certificate after its key.
_ORDER = (material.AUTHORITY_KEYS, material.BUNDLE, material.PUBLISHED, material.KEY, material.CERTIFICATE)
_PRIVATE = frozenset({material.AUTHORITY_KEYS, material.KEY})


class UnusableFolder(AiqueueError):
    """The folder cannot hold certificates."""


def provide(
    folder: Path, hosts: Sequence[str], *, now: datetime | None = None, settle: timedelta = material.SETTLE
) -> tuple[str, ...]:
    """Make or renew `ca.crt`, `ca.key`, `tls.crt` and `tls.key` in a folder. Done again soon after, it changes nothing.

    Each file is replaced in one step, keys have mode 0600, and two processes at once take turns. A reader may find
    `tls.key` newer than `tls.crt` for an instant: it reads again.

    Args:
        folder: made if need be, for its owner alone.
        hosts: DNS names and IP addresses of the serving certificate.
        now: D the clock's.
        settle: how long readers of `ca.crt` may take to learn of a change.

    Returns:
        What was done and why, in sentences; nothing where nothing was due.

    Raises:
        InvalidInput: a host is neither a DNS name nor an IP address.
        UnusableFolder: the folder cannot be made, read or written.
    """
    try:
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        with _locked(folder / LOCK):
            # Whoever had the lock before us is not later than this.
            return _provide(folder, hosts, now or datetime.now(UTC), settle)
    except OSError as error:
        raise UnusableFolder(
            f"certificates cannot be kept in {str(folder)!r}: {error}; name a folder that can be written"
        ) from error


def read(folder: Path) -> Material | None:
    """What a folder holds, None where that is nothing.

    Raises:
        OSError: a file is there and cannot be read.
    """
    data = {}
    for name in _ORDER:
        with contextlib.suppress(FileNotFoundError):
            data[name] = (folder / name).read_bytes()
    return Material.of(data)


def _provide(folder: Path, hosts: Sequence[str], now: datetime, settle: timedelta) -> tuple[str, ...]:
    said: list[str] = []
    held = read(folder)
    for _ in range(MOST_STEPS):
        renewal = material.renewed(held, hosts, now, settle=settle)
        step = renewal.material
        if step.published is None:
            step = replace(step, published=now)  # who wants the bundle reads it from here
        if step == held:
            return tuple(dict.fromkeys(said))
        said.extend(renewal.sentences)
        _write(folder, step, held)
        held = step
    raise UnusableFolder(f"the certificates in {str(folder)!r} were not in order after {MOST_STEPS} steps: empty the folder")


def _write(folder: Path, wanted: Material, held: Material | None) -> None:
    before = {} if held is None else held.data()
    for name in _ORDER:
        content = wanted.data()[name]
        if content != before.get(name):
            _replace(folder / name, content, mode=0o600 if name in _PRIVATE else 0o644)


def _replace(path: Path, content: bytes, *, mode: int) -> None:
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_EXCL, mode)
        with os.fdopen(descriptor, "wb") as handle:
            handle.write(content)
        temporary.replace(path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    """Hold an exclusive lock while the block runs. It goes with the process, however that ends."""
    with path.open("a") as handle:
        fcntl.flock(handle, fcntl.LOCK_EX)
        yield
