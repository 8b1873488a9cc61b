"""A certificate authority of our own: serving certificates for loopback, client certificates for users.

Kubernetes reads a client's user name from the common name and its groups from the organizations.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import rsa

from aiqueue.admission.certificates import x509
from aiqueue.cli.harness import folders
from aiqueue.cli.harness.ports import LOOPBACK

VALID_FOR = timedelta(days=365)
#: An authority with less than this left is replaced at the next start.
RENEWED_BEFORE = timedelta(days=30)


@dataclass(frozen=True, slots=True)
class Pair:
    """A certificate and its key, as files."""

    certificate: Path
    key: Path


class Authority:
    """A certificate authority kept in a folder as `ca.crt` and `ca.key`."""

    def __init__(self, folder: Path, signer: x509.Authority) -> None:
        self.folder = folder
        self.file = folder / "ca.crt"
        self._signer = signer

    @classmethod
    def open(cls, folder: Path, name: str = "aiqueue dev CA") -> Authority:
        """Use the authority in this folder; make one if there is none or its time is nearly over."""
        folder.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            certificate = x509.load_certificate((folder / "ca.crt").read_bytes())
            key = x509.load_key((folder / "ca.key").read_bytes())
        except (FileNotFoundError, x509.UnreadableCertificate):
            return cls._make(folder, name)
        if certificate.not_valid_after_utc < datetime.now(UTC) + RENEWED_BEFORE:
            return cls._make(folder, name)
        return cls(folder, x509.Authority(certificate, key))

    @classmethod
    def _make(cls, folder: Path, name: str) -> Authority:
        now = datetime.now(UTC)
        made = x509.Authority.make(name, now=now, until=now + VALID_FOR)
        # The key first: a crash in between leaves no certificate, so the next open makes both again.
        folders.write_private(folder / "ca.key", made.key_pem)
        folders.write_private(folder / "ca.crt", made.certificate_pem)
        return cls(folder, made)

    def serving(self, name: str, hosts: Sequence[str] = ("localhost",)) -> Pair:
        """Issue a serving certificate for the loopback address and these host names."""
        now = datetime.now(UTC)
        return self._write(name, self._signer.serving(name, (LOOPBACK, *hosts), now=now, until=now + VALID_FOR))

    def client(self, name: str, user: str, groups: Sequence[str] = ()) -> Pair:
        """Issue a client certificate for a Kubernetes user; `name` is the name of the files."""
        now = datetime.now(UTC)
        return self._write(name, self._signer.client(user, groups, now=now, until=now + VALID_FOR))

    def _write(self, name: str, issued: x509.Issued) -> Pair:
        pair = Pair(self.folder / f"{name}.crt", self.folder / f"{name}.key")
        folders.write_private(pair.key, issued.key_pem)
        folders.write_private(pair.certificate, issued.certificate_pem)
        return pair


def token_keys(folder: Path) -> Pair:
    """The key pair that signs service account tokens, made once: `sa.key` and the public `sa.pub`.

    Returns:
        A pair whose `certificate` is the public key.
    """
    pair = Pair(folder / "sa.pub", folder / "sa.key")
    if not pair.certificate.exists():
        key = rsa.generate_private_key(public_exponent=65537, key_size=2048)
        private = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
        folders.write_private(pair.key, private)
        public = key.public_key().public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
        folders.write_private(pair.certificate, public)
    return pair
