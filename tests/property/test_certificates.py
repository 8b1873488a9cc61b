"""Whatever is called when, and wherever a pass dies: what may be served verifies against what may be believed."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from itertools import zip_longest

from hypothesis import example, given, settings
from hypothesis import strategies as st

from aiqueue.admission.certificates import material, rotation, x509
from aiqueue.admission.certificates.material import Material, renewed
from fix_certificates import DAY, HOSTS, HOUR, NOW, authorities, settled, verifies

SETTLE = material.SETTLE
OTHER = (HOSTS[0], "other.svc")


@dataclass
class Seen:
    """A value as it spreads: who looked last within the settle time may still hold an older one."""

    history: list[tuple[datetime, bytes]] = field(default_factory=list)

    def put(self, now: datetime, value: bytes) -> None:
        if value and (not self.history or self.history[-1][1] != value):
            self.history.append((now, value))

    def held_at(self, now: datetime) -> list[bytes]:
        """The present value, and those that were replaced less than the settle time ago."""
        ends = [begin for begin, _ in self.history[1:]]
        return [value for (_, value), end in zip_longest(self.history, ends) if end is None or now - end < SETTLE]


@dataclass
class World:
    """A Secret and a configuration, as the API server holds them, and what others may still hold of them."""

    now: datetime = NOW
    held: Material | None = None
    announced: bytes = b""
    served: Seen = field(default_factory=Seen)
    believed: Seen = field(default_factory=Seen)

    def carry_out(self, step: rotation.Store | rotation.Announce | None) -> None:
        if isinstance(step, rotation.Store):
            self.held = step.material
            self.served.put(self.now, step.material.certificate)
        elif isinstance(step, rotation.Announce):
            self.announced = step.bundle
            self.believed.put(self.now, step.bundle)

    def step(self, hosts: Sequence[str]) -> rotation.Store | rotation.Announce | None:
        return rotation.next_step(self.held, (self.announced,), hosts, self.now)

    def pass_over(self, hosts: Sequence[str], *, dies_after: int) -> None:
        """A keeper's pass, which may die after some writes."""
        for _ in range(dies_after):
            step = self.step(hosts)
            if step is None:
                return
            self.carry_out(step)
            self.check()

    def check(self) -> None:
        bundles = self.believed.held_at(self.now)
        for certificate in self.served.held_at(self.now):
            for bundle in bundles:
                assert verifies(certificate, bundle, HOSTS[0], self.now)
        if self.held is not None:
            assert len(x509.blocks_of(self.held.bundle)) <= material.MOST_AUTHORITIES


def begun() -> World:
    world = World()
    world.pass_over(HOSTS, dies_after=99)
    return world


#: A world in order costs four signatures, so each example begins from a copy of one.
BEGUN = begun()


def a_copy() -> World:
    seen = [Seen(list(each.history)) for each in (BEGUN.served, BEGUN.believed)]
    return World(BEGUN.now, BEGUN.held, BEGUN.announced, *seen)


SHORT = st.integers(0, 90).map(lambda minutes: timedelta(minutes=minutes))
LONG = st.integers(1, 29).map(lambda days: days * DAY)
#: Pause, hosts, and after how many writes the pass dies. After a long pause it does not: nobody outlives keepers that die for months.
PASSES = st.one_of(
    st.tuples(SHORT, st.sampled_from([HOSTS, OTHER]), st.sampled_from([1, 2, 3, 99])),
    st.tuples(LONG, st.sampled_from([HOSTS, OTHER]), st.just(99)),
)


@settings(max_examples=60)
@given(start=st.sampled_from(["fresh", "due", "key lost"]), passes=st.lists(PASSES, max_size=14))
@example("due", [(timedelta(0), HOSTS, 1)] * 6 + [(HOUR, HOSTS, 1)] * 8)
@example("due", [(timedelta(minutes=m), OTHER if m % 2 else HOSTS, 99) for m in (0, 1, 58, 59, 2, 57, 61, 3)])
def test_nothing_that_may_be_served_is_disbelieved(start: str, passes: list[tuple[timedelta, Sequence[str], int]]) -> None:
    world = a_copy()
    if start == "due":
        world.now = NOW + material.AUTHORITY_FOR - material.AUTHORITY_RENEWED_BEFORE - HOUR
        world.served = Seen()  # nine years were skipped
        world.pass_over(HOSTS, dies_after=99)
        world.now += 2 * HOUR
    elif start == "key lost":
        assert world.held is not None
        world.held = replace(world.held, authority_keys=b"")
    for pause, hosts, dies_after in passes:
        world.now += pause
        world.check()
        world.pass_over(hosts, dies_after=dies_after)
    for _ in range(3):
        world.now += SETTLE
        world.pass_over(HOSTS, dies_after=99)
    assert world.step(HOSTS) is None
    assert world.held is not None
    assert len(authorities(world.held)) == 1
    assert world.announced == world.held.bundle


@settings(max_examples=40)
@given(hours=st.lists(st.integers(-40_000, 40_000), max_size=8))
def test_whatever_the_clock_says_it_ends_in_order_and_bounded(hours: list[int]) -> None:
    held: Material | None = None
    for each in hours:
        now = NOW + each * HOUR
        held = settled(settled(held, now), now + SETTLE)
        assert verifies(held.certificate, held.bundle, HOSTS[0], now + SETTLE)
        assert len(authorities(held)) <= material.MOST_AUTHORITIES


def damaged(text: bytes, place: float, change: bytes, length: int) -> bytes:
    """Some bytes replaced, either of the text or of what a PEM block in it encodes."""
    at = int(place * len(text))
    return text[:at] + change + text[at + length :]


def damaged_inside(text: bytes, place: float, value: int) -> bytes:
    """The first PEM block with one byte of its content changed, so that only a reader of the content can tell."""
    head, _, rest = text.partition(b"-----\n")
    body, mark, tail = rest.partition(b"-----END")
    content = bytearray(base64.b64decode(body))
    content[int(place * (len(content) - 1))] ^= value
    return head + b"-----\n" + base64.encodebytes(bytes(content)) + mark + tail


@settings(max_examples=200)
@given(
    name=st.sampled_from(["ca.crt", "ca.key", "tls.crt", "tls.key", "ca.published"]),
    place=st.floats(0, 1),
    change=st.binary(max_size=8),
    length=st.integers(0, 400),
    inside=st.one_of(st.none(), st.integers(1, 255)),
)
def test_damage_is_mended(name: str, place: float, change: bytes, length: int, inside: int | None) -> None:
    assert BEGUN.held is not None
    data = BEGUN.held.data()
    if inside is None or name == "ca.published":
        data[name] = damaged(data[name], place, change, length)
    else:
        data[name] = damaged_inside(data[name], place, inside)
    held = settled(settled(settled(Material.of(data), NOW), NOW + SETTLE), NOW + 2 * SETTLE)
    assert verifies(held.certificate, held.bundle, HOSTS[0], NOW + 2 * SETTLE)
    assert renewed(held, HOSTS, NOW + 2 * SETTLE).sentences == ()
    assert len(authorities(held)) == 1
