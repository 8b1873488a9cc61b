"""A certificate authority of our own: serving certificates for loopback, client certificates for users.

Kubernetes reads a client's user name from the common name and its groups from the organizations.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aiqueue.cli.harness import folders
from aiqueue.cli.harness.ports import LOOPBACK

VALID_FOR = timedelta(days=365)
#: Other clocks may be behind ours.
BACKDATED_BY = timedelta(minutes=5)
#: An authority with less than this left is replaced at the next start.
RENEWED_BEFORE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority kept in a folder as `ca.crt` and `ca.key`."""

    def __init__(self, folder: Path, certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> None:
        self.folder = folder
        self.file = folder / "ca.crt"
        self._certificate = certificate
        self._key = key

    @classmethod
    def open(cls, folder: Path, name: str = "aiqueue dev CA") -> Authority:
        """Use the authority in this folder; make one if there is none or its time is nearly over."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            certificate = x509.load_pem_x509_certificate((folder / "ca.crt").read_bytes())
            key = serialization.load_pem_private_key((folder / "ca.key").read_bytes(), password=None)
        except FileNotFoundError:
            return cls._make(folder, name)
        if (
            not isinstance(key, ec.EllipticCurvePrivateKey)
            or certificate.not_valid_after_utc < datetime.now(UTC) + RENEWED_BEFORE
        ):
            return cls._make(folder, name)
        return cls(folder, certificate, key)

    @classmethod
    def _make(cls, folder: Path, name: str) -> Authority:
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name, ())
        certificate = (
            _builder(subject, subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        # The key first: a crash in between leaves no certificate, so the next open makes both again.
        folders.write_private(folder / "ca.key", _pem(key))
        folders.write_private(folder / "ca.crt", certificate.public_bytes(serialization.Encoding.PEM))
        return cls(folder, certificate, key)

    def serving(self, name: str, hosts: Sequence[str] = ("localhost",)) -> Pair:
        """Issue a serving certificate for the loopback address and these host names."""
        alternatives: list[x509.GeneralName] = [x509.IPAddress(ipaddress.ip_address(LOOPBACK))]
        alternatives += [x509.DNSName(host) for host in hosts]
        return self._issue(name, _name(name, ()), ExtendedKeyUsageOID.SERVER_AUTH, alternatives)

    def client(self, name: str, user: str, groups: Sequence[str] = ()) -> Pair:
        """Issue a client certificate for a Kubernetes user; `name` is the name of the files."""
        return self._issue(name, _name(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, [])

    def _issue(self, name: str, subject: x509.Name, usage: x509.ObjectIdentifier, alternatives: list[x509.GeneralName]) -> Pair:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self._certificate.subject, key.public_key())
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key()), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        certificate = builder.sign(self._key, hashes.SHA256())
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        folders.write_private(pair.key, _pem(key))
        folders.write_private(pair.certificate, certificate.public_bytes(serialization.Encoding.PEM))
        return pair


def token_keys(folder: Path) -> Pair:
    """The key pair that signs service account tokens, made once: `sa.key` and the public `sa.pub`.

    Returns:
        A pair whose `certificate` is the public key.
    """
    pair = Pair(folder / "sa.pub", folder / "sa.key")
    if not pair.certificate.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        folders.write_private(pair.key, _pem(key))
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        folders.write_private(pair.certificate, public)
    return pair


def _name(common: str, organizations: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey) -> x509.CertificateBuilder:
    now = datetime.now(UTC)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED_BY)
        .not_valid_after(now + VALID_FOR)
    )


def _key_usage(*, signs_certificates: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=True,
        key_cert_sign=signs_certificates,
        crl_sign=signs_certificates,
        content_commitment=False,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        encipher_only=False,
        decipher_only=False,
    )


def _pem(key: ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) -> bytes:
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
