"""How long to wait before trying again."""

from __future__ import annotations

from random import Random

from aiqueue.admission.backoff import Backoff


def rng(seed: int) -> Random:
    return Random(seed)


def test_waits_grow_to_a_bound_and_never_vanish() -> None:
    for seed in range(50):
        backoff = Backoff(rng(seed), shortest_seconds=0.1, longest_seconds=30.0)
        waits = [backoff.failed() for _ in range(100)]
        assert all(0.1 <= wait <= 30.0 for wait in waits)
        assert all(wait <= 0.1 * 2 ** (number + 1) for number, wait in enumerate(waits))
        assert sum(waits[20:]) / 80 > 10.0, "full jitter below 30 s waits 15 s on average"
        assert backoff.failures == 100


def test_it_starts_anew() -> None:
    backoff = Backoff(rng(1))
    for _ in range(20):
        backoff.failed()
    backoff.reset()
    assert backoff.failures == 0
    assert backoff.failed() <= 0.2


def test_what_the_server_asks_for_is_followed_up_to_the_bound() -> None:
    for seed in range(50):
        backoff = Backoff(rng(seed), longest_seconds=30.0)
        assert 5.0 <= backoff.failed(at_least_seconds=5.0) <= 5.5
        assert backoff.failed(at_least_seconds=1e6) <= 33.0


def test_replicas_do_not_come_back_together() -> None:
    waits = {Backoff(rng(seed)).failed(at_least_seconds=1.0) for seed in range(20)}
    assert len(waits) == 20
