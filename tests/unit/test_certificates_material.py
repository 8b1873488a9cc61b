"""The steps of rotation, one by one; real signatures, no waiting: time is an argument."""

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest

from aiqueue.admission.certificates import material, x509
from aiqueue.admission.certificates.material import Material, renewed
from aiqueue.queue.errors import InvalidInput
from fix_certificates import DAY, HOSTS, HOUR, NOW, YEAR, authorities, served, settled, shakes_hands, signed_by, verifies

#: When the authority made at NOW is due.
DUE = NOW + material.AUTHORITY_FOR - material.AUTHORITY_RENEWED_BEFORE


@pytest.fixture(scope="module")
def fresh() -> Material:
    return settled(None, NOW)


@pytest.fixture(scope="module")
def taken_over(fresh: Material) -> Material:
    """The new authority signs, the old one is still believed."""
    announced = settled(settled(fresh, DUE - HOUR), DUE)
    return settled(announced, DUE + HOUR)


def sentence(held: Material | None, now: datetime = NOW, *, settle: timedelta = material.SETTLE) -> str:
    return " / ".join(renewed(held, HOSTS, now, settle=settle).sentences)


def test_from_nothing(fresh: Material) -> None:
    first = renewed(None, HOSTS, NOW)
    assert first.sentences == ("there is no certificate yet: an authority is made",)
    assert (first.material.certificate, first.material.published) == (b"", None)
    assert all(verifies(fresh.certificate, fresh.bundle, host, NOW) for host in HOSTS)
    assert x509.hosts_of(served(fresh)) == set(HOSTS)
    (authority,) = authorities(fresh)
    assert authority.not_valid_after_utc == NOW + timedelta(days=3650)
    assert served(fresh).not_valid_after_utc == NOW + timedelta(days=90)


def test_openssl_believes_it_too(tmp_path: Path) -> None:
    held = settled(None, datetime.now(UTC))
    (tmp_path / "crt").write_bytes(held.certificate)
    (tmp_path / "key").write_bytes(held.key)
    files = (str(tmp_path / "crt"), str(tmp_path / "key"))
    assert shakes_hands(*files, held.bundle, HOSTS[0])
    assert not shakes_hands(*files, held.bundle, "other.example")
    assert not shakes_hands(*files, settled(None, NOW).bundle, HOSTS[0])


def test_nothing_is_signed_before_the_authority_is_published() -> None:
    first = renewed(None, HOSTS, NOW).material
    assert renewed(first, HOSTS, NOW + YEAR).material == first


def test_asked_again_nothing_is_due(fresh: Material) -> None:
    for later in (timedelta(0), timedelta(minutes=5), 59 * DAY):
        assert renewed(fresh, HOSTS, NOW + later) == material.Renewal(fresh)


def test_two_thirds_of_its_time(fresh: Material) -> None:
    after = settled(fresh, NOW + 60 * DAY)
    assert served(after) != served(fresh)
    assert replace(after, certificate=fresh.certificate, key=fresh.key) == fresh
    assert "two thirds of its time are over" in sentence(fresh, NOW + 60 * DAY)


def test_other_hosts(fresh: Material) -> None:
    after = settled(fresh, NOW + HOUR, ("other.svc", HOSTS[0]))
    assert x509.hosts_of(served(after)) == {"other.svc", HOSTS[0]}
    assert after.bundle == fresh.bundle
    assert settled(after, NOW + HOUR, (HOSTS[0].upper(), "other.svc")) == after
    with pytest.raises(InvalidInput):
        renewed(fresh, ("no host",), NOW)


def test_a_new_authority_takes_over_in_steps_that_drop_nothing(fresh: Material) -> None:
    before = settled(fresh, DUE - HOUR)
    assert len(authorities(before)) == 1
    announced = settled(before, DUE)
    assert (len(authorities(announced)), authorities(announced)[1]) == (2, authorities(before)[0])
    assert announced.certificate == before.certificate
    assert settled(announced, DUE + HOUR - timedelta(seconds=1)) == announced
    over = settled(announced, DUE + HOUR)
    assert signed_by(over, 0)
    assert over.bundle == announced.bundle
    assert len(x509.key_blocks_of(over.authority_keys)) == 1
    assert settled(over, DUE + 2 * HOUR - timedelta(seconds=1)) == over
    done = settled(over, DUE + 2 * HOUR)
    assert authorities(done) == authorities(announced)[:1]
    assert done.certificate == over.certificate
    # Each certificate against each bundle of the time before and after its step.
    for held, other in ((before, announced), (announced, over), (over, done)):
        for certificate in (held.certificate, other.certificate):
            assert verifies(certificate, held.bundle, HOSTS[0], DUE)
            assert verifies(certificate, other.bundle, HOSTS[0], DUE)
    assert not verifies(before.certificate, done.bundle, HOSTS[0], DUE)


def test_other_hosts_while_a_new_authority_is_announced(fresh: Material) -> None:
    announced = settled(settled(fresh, DUE - HOUR), DUE)
    after = settled(announced, DUE + timedelta(minutes=1), ("other.svc",))
    assert signed_by(after, 1)
    assert verifies(after.certificate, fresh.bundle, "other.svc", DUE + timedelta(minutes=1))
    # And once more: the key of the old authority is still there.
    again = settled(after, DUE + timedelta(minutes=2))
    assert (signed_by(again, 1), x509.hosts_of(served(again))) == (True, frozenset(HOSTS))
    assert signed_by(settled(after, DUE + HOUR, ("other.svc",)), 0)


def test_a_settle_time_of_ones_own(fresh: Material) -> None:
    announced = settled(settled(fresh, DUE - HOUR), DUE)
    assert sentence(announced, DUE + timedelta(minutes=1)) == ""
    assert "it signs" in sentence(announced, DUE + timedelta(minutes=1), settle=timedelta(minutes=1))


@pytest.mark.parametrize(
    ("damage", "said"),
    [
        ({"tls.crt": b"nonsense"}, "tls.crt or tls.key is damaged"),
        ({"tls.key": b"nonsense"}, "tls.crt or tls.key is damaged"),
        ({"tls.key": b""}, "tls.crt or tls.key is damaged"),
        ({"tls.crt": b"", "tls.key": b""}, "there is no serving certificate"),
    ],
)
def test_a_damaged_serving_certificate_is_issued_again_by_the_same_authority(
    fresh: Material, damage: dict[str, bytes], said: str
) -> None:
    broken = Material.of({**fresh.data(), **damage})
    assert said in sentence(broken)
    mended = settled(broken, NOW)
    assert (mended.bundle, mended.authority_keys) == (fresh.bundle, fresh.authority_keys)
    assert verifies(mended.certificate, fresh.bundle, HOSTS[0], NOW)


def test_parts_that_do_not_belong_together(fresh: Material) -> None:
    other = settled(None, NOW)
    assert "do not belong together" in sentence(replace(fresh, key=other.key))
    assert "signed by no authority" in sentence(replace(fresh, certificate=other.certificate, key=other.key))
    assert "the key of the newest authority is lost" in sentence(replace(fresh, authority_keys=other.authority_keys))


def test_a_lost_key_of_the_authority_drops_nothing(fresh: Material) -> None:
    for lost in (b"", b"nonsense", b"-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n"):
        announced = settled(replace(fresh, authority_keys=lost), NOW)
        assert announced.certificate == fresh.certificate
        assert announced.bundle.endswith(fresh.bundle)
        assert settled(announced, NOW + timedelta(minutes=59)) == announced
        over = settled(announced, NOW + HOUR)
        assert signed_by(over, 0)
        assert len(authorities(settled(over, NOW + 2 * HOUR))) == 1


@pytest.mark.parametrize("bundle", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_a_lost_bundle_is_made_anew(fresh: Material, bundle: bytes) -> None:
    mended = settled(replace(fresh, bundle=bundle), NOW)
    assert "there is no authority that can be used" in sentence(replace(fresh, bundle=bundle))
    assert verifies(mended.certificate, mended.bundle, HOSTS[0], NOW)


def test_a_lost_bundle_comes_back_from_where_it_is_published(fresh: Material) -> None:
    for lost in (b"", b"nonsense", fresh.certificate):
        assert renewed(replace(fresh, bundle=lost), HOSTS, NOW, announced=fresh.bundle).material == fresh
    # Without its key it goes on being believed while a new one is announced.
    keyless = renewed(replace(fresh, bundle=b"", authority_keys=b""), HOSTS, NOW, announced=fresh.bundle).material
    assert (len(authorities(keyless)), keyless.bundle.endswith(fresh.bundle)) == (2, True)


def test_strangers_in_the_bundle_leave_it(fresh: Material) -> None:
    mixed = replace(fresh, bundle=b"# notes\n" + fresh.bundle + fresh.certificate + fresh.bundle)
    assert "is no authority that signed itself" in sentence(mixed)
    assert settled(mixed, NOW) == fresh


@pytest.mark.parametrize("years", [0.3, 9.5, 11])
def test_after_a_long_sleep_everything_is_in_order_at_once_or_stays_believed(fresh: Material, years: float) -> None:
    now = NOW + years * YEAR
    after = settled(fresh, now)
    assert verifies(after.certificate, after.bundle, HOSTS[0], now)


def test_a_serving_certificate_ends_with_its_authority(fresh: Material) -> None:
    """Where nobody renewed for so long that the authority has days left, and a new one is not published yet."""
    end = authorities(fresh)[0].not_valid_after_utc
    after = settled(replace(fresh, certificate=b"", key=b""), end - 10 * DAY)
    assert signed_by(after, 1)
    assert served(after).not_valid_after_utc == end


def test_expired_parts_are_said(fresh: Material) -> None:
    assert "the serving certificate ended on 2027-02-19 12:00 UTC" in sentence(fresh, NOW + 91 * DAY)
    assert "an authority ended on 2036-11-18 12:00 UTC" in sentence(fresh, NOW + 11 * YEAR)


@pytest.mark.parametrize("behind", [timedelta(minutes=59), 2 * HOUR, 30 * DAY, 5 * YEAR])
def test_a_clock_that_was_set_back(fresh: Material, behind: timedelta) -> None:
    """What is served stays good for those whose clock is right, and becomes good for ours."""
    earlier = NOW - behind
    after = settled(settled(fresh, earlier), earlier + HOUR)
    assert verifies(after.certificate, after.bundle, HOSTS[0], NOW)
    assert verifies(after.certificate, after.bundle, HOSTS[0], earlier + HOUR)
    assert len(authorities(after)) <= 2


def test_a_clock_that_goes_back_again_and_again_ends_at_the_bound(fresh: Material) -> None:
    held = fresh
    for step in range(1, 9):
        held = settled(held, NOW - step * DAY)
        assert len(authorities(held)) <= material.MOST_AUTHORITIES
        assert verifies(held.certificate, held.bundle, HOSTS[0], NOW)


def test_a_publication_in_the_future_begins_now(fresh: Material) -> None:
    announced = replace(settled(settled(fresh, DUE - HOUR), DUE), published=DUE + YEAR)
    assert settled(announced, DUE).published == DUE
    # Two clocks are never quite the same.
    nearly = replace(announced, published=DUE + HOUR)
    assert renewed(nearly, HOSTS, DUE) == material.Renewal(nearly)


def test_an_emptied_secret_keeps_what_is_announced(fresh: Material) -> None:
    first = renewed(None, HOSTS, NOW, announced=fresh.bundle + b"nonsense").material
    assert first.bundle.endswith(fresh.bundle)
    after = settled(first, NOW)
    assert signed_by(after, 0)
    assert len(authorities(settled(after, NOW + HOUR))) == 1
    expired = renewed(None, HOSTS, NOW + 11 * YEAR, announced=fresh.bundle).material
    assert len(authorities(expired)) == 1


def test_a_bundle_is_bounded_and_keeps_what_is_served(taken_over: Material) -> None:
    held = replace(taken_over, published=NOW)
    signer = authorities(held)[0]
    for _ in range(6):
        held = replace(renewed(replace(held, authority_keys=b""), HOSTS, DUE).material, published=DUE)
        assert len(authorities(held)) <= material.MOST_AUTHORITIES
        assert signer in authorities(held)


def test_data_and_back(taken_over: Material) -> None:
    assert set(taken_over.data()) == {"ca.crt", "ca.key", "tls.crt", "tls.key", "ca.published"}
    assert Material.of(taken_over.data()) == taken_over
    assert Material.of({}) is None
    assert Material.of({"ca.published": b"2026-01-01T00:00:00+00:00", "other": b"x"}) is None
    for odd in (b"", b"yesterday", b"2026-01-01T00:00:00", b"\xff"):
        assert Material.of({**taken_over.data(), "ca.published": odd}) == replace(taken_over, published=None)


def test_keys_do_not_show(taken_over: Material) -> None:
    assert "PRIVATE" not in repr(taken_over)
