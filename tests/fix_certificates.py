"""Judging certificates as a client does, and a Secret as a kubelet brings it to a pod."""

from __future__ import annotations

import ssl
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta

from cryptography import x509
from cryptography.x509 import verification

from aiqueue.admission.certificates.material import Material, renewed

HOSTS = ("aiqueue-webhook.aiqueue-system.svc", "aiqueue-webhook.aiqueue-system.svc.cluster.local")
NOW = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
YEAR = timedelta(days=365)


def verifies(certificate: bytes, bundle: bytes, host: str, at: datetime) -> bool:
    """Whether a client that believes this bundle accepts the certificate for the host at that time."""
    store = verification.Store(x509.load_pem_x509_certificates(bundle))
    verifier = verification.PolicyBuilder().store(store).time(at).build_server_verifier(x509.DNSName(host))
    leaf, *others = x509.load_pem_x509_certificates(certificate)
    try:
        verifier.verify(leaf, others)
    except verification.VerificationError:
        return False
    return True


def shakes_hands(certificate: str, key: str, bundle: bytes, host: str) -> bool:
    """Whether a TLS client that believes this bundle talks to a server with these files; in memory, with OpenSSL."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    server.load_cert_chain(certificate, key)
    client.load_verify_locations(cadata=bundle.decode())
    there, back = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = (client.wrap_bio(back, there, server_hostname=host), server.wrap_bio(there, back, server_side=True))
    done = [False, False]
    for _ in range(10):
        for index, end in enumerate(ends):
            try:
                end.do_handshake()
                done[index] = True
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLCertVerificationError:
                return False
    return all(done)


def settled(held: Material | None, now: datetime, hosts: Sequence[str] = HOSTS) -> Material:
    """What a keeper makes of it in one pass at one time."""
    for _ in range(12):
        step = renewed(held, hosts, now).material
        if step.published is None:
            step = Material(step.bundle, step.authority_keys, step.certificate, step.key, now)
        if step == held:
            return step
        held = step
    raise AssertionError("not in order after 12 steps")


def authorities(held: Material) -> list[x509.Certificate]:
    """The authorities of the bundle, newest first."""
    return x509.load_pem_x509_certificates(held.bundle)


def served(held: Material) -> x509.Certificate:
    """The serving certificate."""
    return x509.load_pem_x509_certificate(held.certificate)


def signed_by(held: Material, index: int) -> bool:
    """Whether the authority at this place of the bundle signed what is served."""
    try:
        served(held).verify_directly_issued_by(authorities(held)[index])
    except Exception as error:  # noqa: BLE001 - whatever the library says of a wrong signature
        print(error)
        return False
    return True
