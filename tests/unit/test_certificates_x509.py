"""Certificates are what strict clients accept, and nothing that is damaged gets past reading."""

from datetime import timedelta

import pytest
from cryptography import x509 as standard
from cryptography.hazmat.primitives import hashes
from cryptography.x509.oid import ExtendedKeyUsageOID

from aiqueue.admission.certificates import x509
from aiqueue.queue.errors import InvalidInput
from fix_certificates import DAY, HOUR, NOW, YEAR, verifies


@pytest.fixture(scope="module")
def authority() -> x509.Authority:
    return x509.Authority.make("an authority", now=NOW, until=NOW + YEAR)


def test_a_serving_certificate_is_good_for_its_hosts_its_time_and_its_authority(authority: x509.Authority) -> None:
    issued = authority.serving("web", ["Web.example", "127.0.0.1", "::1", "web.example"], now=NOW, until=NOW + DAY)
    assert x509.hosts_of(issued.certificate) == {"web.example", "127.0.0.1", "::1"}
    assert verifies(issued.certificate_pem, authority.certificate_pem, "web.example", NOW)
    assert not verifies(issued.certificate_pem, authority.certificate_pem, "other.example", NOW)
    assert not verifies(issued.certificate_pem, authority.certificate_pem, "web.example", NOW + DAY + timedelta(seconds=1))
    other = x509.Authority.make("an authority", now=NOW, until=NOW + YEAR)
    assert not verifies(issued.certificate_pem, other.certificate_pem, "web.example", NOW)


def test_a_clock_that_is_an_hour_behind_is_no_obstacle(authority: x509.Authority) -> None:
    issued = authority.serving("web", ["web.example"], now=NOW, until=NOW + DAY)
    assert verifies(issued.certificate_pem, authority.certificate_pem, "web.example", NOW - HOUR)
    assert not verifies(issued.certificate_pem, authority.certificate_pem, "web.example", NOW - HOUR - timedelta(seconds=2))
    assert x509.created_at(issued.certificate) == NOW


def test_what_a_certificate_may_be_used_for(authority: x509.Authority) -> None:
    serving = authority.serving("web", ["web.example"], now=NOW, until=NOW + DAY).certificate
    client = authority.client("ann", ["readers"], now=NOW, until=NOW + DAY).certificate
    for issued, usage in ((serving, ExtendedKeyUsageOID.SERVER_AUTH), (client, ExtendedKeyUsageOID.CLIENT_AUTH)):
        assert list(issued.extensions.get_extension_for_class(standard.ExtendedKeyUsage).value) == [usage]
        assert issued.extensions.get_extension_for_class(standard.BasicConstraints).value.ca is False
        assert issued.extensions.get_extension_for_class(standard.KeyUsage).value.key_cert_sign is False
        assert not x509.is_authority(issued)
    assert client.subject.rfc4514_string() == "CN=ann,O=readers"
    constraints = authority.certificate.extensions.get_extension_for_class(standard.BasicConstraints)
    assert (constraints.critical, constraints.value.ca, constraints.value.path_length) == (True, True, 0)
    assert x509.signed_by(client, authority.certificate)
    assert not x509.signed_by(client, x509.Authority.make("an authority", now=NOW, until=NOW + DAY).certificate)


@pytest.mark.parametrize(
    "host", ["", "a b", "-a.example", "a..b", "x" * 64, "https://a", "a.example/", "*", "a_b", "ä.example"]
)
def test_a_host_that_is_none_is_named(authority: x509.Authority, host: str) -> None:
    with pytest.raises(InvalidInput, match="write a DNS name such as"):
        authority.serving("web", ["good.example", host], now=NOW, until=NOW + DAY)


def test_no_hosts_are_too_few() -> None:
    with pytest.raises(InvalidInput, match="name at least one"):
        x509.normalised([])


def test_reading_back(authority: x509.Authority) -> None:
    assert x509.load_certificate(authority.certificate_pem) == authority.certificate
    assert x509.belong_together(authority.certificate, x509.load_key(authority.key_pem))
    assert x509.blocks_of(b"# who\n" + authority.certificate_pem * 2) == (authority.certificate_pem.strip(),) * 2


@pytest.mark.parametrize("damage", [b"", b"nonsense", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"])
def test_what_cannot_be_read_is_said_in_one_way(damage: bytes) -> None:
    with pytest.raises(x509.UnreadableCertificate, match="not a PEM certificate"):
        x509.load_certificate(damage)
    with pytest.raises(x509.UnreadableCertificate, match="not a PEM private key"):
        x509.load_key(damage)


def test_keys_do_not_show(authority: x509.Authority) -> None:
    assert "key" not in repr(authority).lower()


def test_an_authority_signed_by_another_is_none_of_ours(authority: x509.Authority) -> None:
    other = x509.Authority.make("another", now=NOW, until=NOW + YEAR)
    crossed = (
        x509._builder(authority.certificate.subject, other.certificate.subject, authority.key.public_key(), NOW, NOW + DAY)
        .add_extension(standard.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(other.key, hashes.SHA256())
    )
    assert x509.signed_by(crossed, other.certificate)
    assert not x509.is_authority(crossed)
    assert x509.is_authority(other.certificate)
