"""X.509 primitives: authorities, what they sign, and reading both back. EC P-256 and SHA-256 throughout, times in UTC."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from aiqueue.queue.errors import AiqueueError, InvalidInput

#: How much earlier than now a certificate begins: other clocks may be behind ours.
BACKDATED_BY = timedelta(hours=1)

_CERTIFICATE = re.compile(rb"-----BEGIN CERTIFICATE-----.*?-----END CERTIFICATE-----", re.DOTALL)
_KEY = re.compile(rb"-----BEGIN (?:EC )?PRIVATE KEY-----.*?-----END (?:EC )?PRIVATE KEY-----", re.DOTALL)
_DNS_NAME = re.compile(r"(?:\*\.)?(?!-)[a-z0-9-]{1,63}(?<!-)(?:\.(?!-)[a-z0-9-]{1,63}(?<!-))*", re.ASCII)
#: What reading a damaged certificate or key may raise, here or when a part of it is looked at.
_DAMAGED = (
    ValueError,
    TypeError,
    UnsupportedAlgorithm,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    CryptographyDeprecationWarning,  # where warnings are errors
)


class UnreadableCertificate(AiqueueError):
    """What should be a certificate or a key cannot be read as one."""


@dataclass(frozen=True, slots=True)
class Issued:
    """A certificate and its key."""

    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey = field(repr=False)

    @property
    def certificate_pem(self) -> bytes:
        """The certificate as PEM."""
        return certificate_pem(self.certificate)

    @property
    def key_pem(self) -> bytes:
        """The key as PEM (PKCS 8, not encrypted)."""
        return key_pem(self.key)


@dataclass(frozen=True, slots=True)
class Authority(Issued):
    """A certificate authority that signs serving and client certificates, and no other authorities."""

    @classmethod
    def make(cls, name: str, *, now: datetime, until: datetime) -> Authority:
        """A new authority with a key of its own, which has signed itself.

        Args:
            name: its common name, at most 64 characters.
            now: it begins BACKDATED_BY before.
            until: its end.
        """
        key = ec.generate_private_key(ec.SECP256R1())
        subject = _name(name, ())
        certificate = (
            _builder(subject, subject, key.public_key(), now, until)
            .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
            .add_extension(_key_usage(signs_certificates=True), critical=True)
            .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
            .sign(key, hashes.SHA256())
        )
        return cls(certificate, key)

    def serving(self, name: str, hosts: Iterable[str], *, now: datetime, until: datetime) -> Issued:
        """Issue a serving certificate for these DNS names and IP addresses.

        Raises:
            InvalidInput: there are no hosts, or one is neither a DNS name nor an IP address.
        """
        names = [_general_name(host) for host in normalised(hosts)]
        return self._issue(_name(name, ()), ExtendedKeyUsageOID.SERVER_AUTH, names, now, until)

    def client(self, user: str, groups: Sequence[str] = (), *, now: datetime, until: datetime) -> Issued:
        """Issue a client certificate: Kubernetes reads the user from the common name, groups from the organizations."""
        return self._issue(_name(user, groups), ExtendedKeyUsageOID.CLIENT_AUTH, [], now, until)

    def _issue(
        self,
        subject: x509.Name,
        usage: x509.ObjectIdentifier,
        alternatives: Sequence[x509.GeneralName],
        now: datetime,
        until: datetime,
    ) -> Issued:
        key = ec.generate_private_key(ec.SECP256R1())
        builder = (
            _builder(subject, self.certificate.subject, key.public_key(), now, until)
            .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
            .add_extension(_key_usage(signs_certificates=False), critical=True)
            .add_extension(x509.ExtendedKeyUsage([usage]), critical=False)
            .add_extension(x509.AuthorityKeyIdentifier.from_issuer_public_key(self.key.public_key()), critical=False)
        )
        if alternatives:
            builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
        return Issued(builder.sign(self.key, hashes.SHA256()), key)


def normalised(hosts: Iterable[str]) -> tuple[str, ...]:
    """Host names in lower case and IP addresses in their usual form, each once, in order.

    Raises:
        InvalidInput: there are none, or one is neither a DNS name nor an IP address.
    """
    found = tuple(dict.fromkeys(_host(host) for host in hosts))
    if not found:
        raise InvalidInput("hosts", found, "name at least one DNS name or IP address")
    return found


def hosts_of(certificate: x509.Certificate) -> frozenset[str]:
    """The DNS names and IP addresses that a certificate is good for."""
    try:
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except x509.ExtensionNotFound:
        return frozenset()
    addresses = {str(each) for each in names.get_values_for_type(x509.IPAddress)}
    return frozenset(names.get_values_for_type(x509.DNSName)) | addresses


def created_at(certificate: x509.Certificate) -> datetime:
    """When we made this certificate of ours."""
    return certificate.not_valid_before_utc + BACKDATED_BY


def is_authority(certificate: x509.Certificate) -> bool:
    """Whether this is a certificate authority that signed itself."""
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return False
    return constraints.ca and signed_by(certificate, certificate)


def signed_by(certificate: x509.Certificate, authority: x509.Certificate) -> bool:
    """Whether the authority's key signed the certificate, and is named as its issuer."""
    try:
        certificate.verify_directly_issued_by(authority)
    except (*_DAMAGED, InvalidSignature):
        return False
    return True


def belong_together(certificate: x509.Certificate, key: ec.EllipticCurvePrivateKey) -> bool:
    """Whether the key is that of the certificate."""
    return certificate.public_key() == key.public_key()


def blocks_of(pem: bytes) -> tuple[bytes, ...]:
    """The certificates of a bundle, one PEM block each, not looked into."""
    return tuple(_CERTIFICATE.findall(pem))


def key_blocks_of(pem: bytes) -> tuple[bytes, ...]:
    """The private keys in a text, one PEM block each, not looked into."""
    return tuple(_KEY.findall(pem))


def load_certificate(pem: bytes) -> x509.Certificate:
    """Read one certificate, the first of the text, and every part of it that is looked at later.

    Raises:
        UnreadableCertificate: it is none, or damaged.
    """
    try:
        certificate = x509.load_pem_x509_certificate(pem)
        certificate.public_key()
        hosts_of(certificate)
        # Parts are decoded when they are first asked for.
        _ = certificate.extensions, certificate.subject, certificate.issuer, certificate.not_valid_after_utc
    except _DAMAGED as error:
        raise UnreadableCertificate(f"not a PEM certificate: {error}") from error
    return certificate


def load_key(pem: bytes) -> ec.EllipticCurvePrivateKey:
    """Read an EC private key.

    Raises:
        UnreadableCertificate: it is none, or damaged; the text says nothing of it.
    """
    try:
        key = serialization.load_pem_private_key(pem, password=None)
    except _DAMAGED:
        raise UnreadableCertificate("not a PEM private key without a password") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey):
        raise UnreadableCertificate("not an EC private key")
    return key


def certificate_pem(certificate: x509.Certificate) -> bytes:
    """A certificate as PEM."""
    return certificate.public_bytes(serialization.Encoding.PEM)


def key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    """A private key as PEM (PKCS 8, not encrypted)."""
    return key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())


def _host(text: str) -> str:
    try:
        return str(ipaddress.ip_address(text))
    except ValueError:
        name = text.lower()
    if len(name) > 253 or _DNS_NAME.fullmatch(name) is None:
        raise InvalidInput("host", text, "write a DNS name such as aiqueue-webhook.aiqueue-system.svc, or an IP address")
    return name


def _general_name(host: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(host))
    except ValueError:
        return x509.DNSName(host)


def _name(common: str, organizations: Sequence[str]) -> x509.Name:
    parts = [x509.NameAttribute(NameOID.ORGANIZATION_NAME, each) for each in organizations]
    return x509.Name([*parts, x509.NameAttribute(NameOID.COMMON_NAME, common)])


def _builder(
    subject: x509.Name, issuer: x509.Name, key: ec.EllipticCurvePublicKey, now: datetime, until: datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - BACKDATED_BY)
        .not_valid_after(until)
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
