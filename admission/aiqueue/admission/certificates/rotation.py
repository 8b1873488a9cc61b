"""Which of Secret and webhook configuration is written next, and what: pure, so that every order of events can be tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta

from aiqueue.admission.certificates import material
from aiqueue.admission.certificates.material import Material


@dataclass(frozen=True, slots=True)
class Store:
    """Write this into the Secret."""

    material: Material
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Announce:
    """Write this bundle into every webhook of the configuration."""

    bundle: bytes
    sentences: tuple[str, ...] = ()


def next_step(
    held: Material | None,
    announced: Sequence[bytes],
    hosts: Iterable[str],
    now: datetime,
    *,
    settle: timedelta = material.SETTLE,
) -> Store | Announce | None:
    """The next write, None where Secret and configuration are in order.

    Args:
        held: what the Secret holds.
        announced: the caBundle of each webhook, read before the Secret was.
        hosts: what the serving certificate must be good for.
        now: aware time.
        settle: how long a change takes to reach everybody.

    Raises:
        InvalidInput: a host is neither a DNS name nor an IP address.
    """
    newest = None if held is None else held.newest()
    if held is not None and held.published is not None and newest is not None and _lacking(newest, announced):
        # Somebody wrote another bundle. The API server learns of ours anew, so the settle time begins anew.
        return Store(
            replace(held, published=None), ("the authority is not in the configuration any more: it is published again",)
        )
    renewal = material.renewed(held, hosts, now, settle=settle, announced=announced[0] if announced else b"")
    if renewal.material != held:
        return Store(renewal.material, renewal.sentences)
    if any(each != held.bundle for each in announced):
        return Announce(held.bundle, ("the bundle of authorities is written to the configuration",))
    if held.published is None:
        return Store(replace(held, published=now))
    return None


def _lacking(newest: bytes, announced: Sequence[bytes]) -> bool:
    return any(newest.strip() not in each for each in announced)
