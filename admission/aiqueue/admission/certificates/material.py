"""What a Secret or a folder holds of the webhook's certificates, and the next step of its renewal: pure, but for fresh keys."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta

from cryptography import x509 as certificates
from cryptography.hazmat.primitives.asymmetric import ec

from aiqueue.admission.certificates import x509

BUNDLE = "ca.crt"
AUTHORITY_KEYS = "ca.key"
CERTIFICATE = "tls.crt"
KEY = "tls.key"
PUBLISHED = "ca.published"

SERVING_FOR = timedelta(days=90)
AUTHORITY_FOR = timedelta(days=3650)
#: An authority with less than this left is followed by a new one.
AUTHORITY_RENEWED_BEFORE = timedelta(days=365)
#: How long a change may take to reach every kubelet and every API server.
SETTLE = timedelta(hours=1)
#: A bundle holds no more: only odd clocks and lost keys could make it grow.
MOST_AUTHORITIES = 4

COMMON_NAME = "aiqueue-webhook"


@dataclass(frozen=True, slots=True)
class Material:
    """The content of a Secret or a folder, PEM throughout; empty where there is none.

    Attributes:
        bundle: authorities to believe, newest first.
        authority_keys: keys of those authorities that may still sign.
        certificate: what the webhook serves.
        key: its key.
        published: since when the newest authority is known to be published; None before.
    """

    bundle: bytes = b""
    authority_keys: bytes = field(default=b"", repr=False)
    certificate: bytes = b""
    key: bytes = field(default=b"", repr=False)
    published: datetime | None = None

    @classmethod
    def of(cls, data: Mapping[str, bytes]) -> Material | None:
        """From the data of a Secret, or files by name; None where there is nothing of it."""
        if not any(data.get(name) for name in (BUNDLE, AUTHORITY_KEYS, CERTIFICATE, KEY)):
            return None
        return cls(
            bundle=data.get(BUNDLE, b""),
            authority_keys=data.get(AUTHORITY_KEYS, b""),
            certificate=data.get(CERTIFICATE, b""),
            key=data.get(KEY, b""),
            published=_time(data.get(PUBLISHED, b"")),
        )

    def data(self) -> dict[str, bytes]:
        """The same as the data of a Secret; `published` is empty where it is not known."""
        return {
            BUNDLE: self.bundle,
            AUTHORITY_KEYS: self.authority_keys,
            CERTIFICATE: self.certificate,
            KEY: self.key,
            PUBLISHED: b"" if self.published is None else self.published.isoformat().encode(),
        }

    def newest(self) -> bytes | None:
        """The newest authority as it stands in a bundle, None where none can be read."""
        authorities, _ = _authorities(self.bundle)
        return x509.certificate_pem(authorities[0]) if authorities else None


@dataclass(frozen=True, slots=True)
class Renewal:
    """The next step: what to hold from now on, and why, in sentences. No sentence: nothing is due."""

    material: Material
    sentences: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class _Known:
    """Material as read: what cannot be used is left out and said."""

    authorities: tuple[certificates.Certificate, ...]
    keys: tuple[ec.EllipticCurvePrivateKey, ...]
    serving: x509.Issued | None
    faults: tuple[str, ...]

    def signer(self, authority: certificates.Certificate) -> x509.Authority | None:
        """The authority with its key, None where that is lost."""
        keys = (each for each in self.keys if x509.belong_together(authority, each))
        return next((x509.Authority(authority, each) for each in keys), None)

    def current(self) -> certificates.Certificate | None:
        """The authority that signed what is served."""
        if self.serving is None:
            return None
        signed = self.serving.certificate
        return next((each for each in self.authorities if x509.signed_by(signed, each)), None)


def renewed(
    held: Material | None, hosts: Iterable[str], now: datetime, *, settle: timedelta = SETTLE, announced: bytes = b""
) -> Renewal:
    """The next step of rotation. Ask again once the step is stored, and published where the bundle changed.

    Nothing but the bundle and the keys of authorities changes while `published` is None.

    Args:
        held: what there is; None for nothing.
        hosts: DNS names and IP addresses that the serving certificate must have, and no others.
        now: aware time.
        settle: how long a change takes to reach everybody.
        announced: the bundle that is published now; matters where none is held.

    Raises:
        InvalidInput: a host is neither a DNS name nor an IP address.
    """
    names = x509.normalised(hosts)
    if held is None:
        others = tuple(each for each in _authorities(announced)[0] if each.not_valid_after_utc > now)
        known = _Known(others, (), None, ())
        return _with_new_authority(Material(), known, now, ("there is no certificate yet: an authority is made",))
    lost = not _authorities(held.bundle)[0]
    known = _read(replace(held, bundle=announced) if lost else held, now)
    due = _authority_due(known, now)
    if due:
        return _with_new_authority(held, known, now, (*known.faults, due))
    clean = _stored(held, known)
    if clean != held:
        return Renewal(clean, known.faults or ("what is held is put in order",))
    if held.published is None:
        return Renewal(held)
    if held.published > now + x509.BACKDATED_BY:
        sentence = f"the authority was published at {_said(held.published)}, which is not yet: its settle time begins now"
        return Renewal(replace(held, published=now), (sentence,))
    return _signed(held, known, names, now, settled=now - held.published >= settle, settle=settle)


def _with_new_authority(held: Material, known: _Known, now: datetime, sentences: tuple[str, ...]) -> Renewal:
    """A new authority in front of the bundle; what is served stays."""
    until = max([now + AUTHORITY_FOR, *(each.not_valid_after_utc for each in known.authorities if now < x509.created_at(each))])
    made = x509.Authority.make(f"aiqueue webhook authority {now:%Y-%m-%d}", now=now, until=until)
    current = known.current()
    others = list(known.authorities)
    while len(others) >= MOST_AUTHORITIES:
        # The oldest goes, but never the one that what is served depends on.
        others.pop(-2 if others[-1] is current else -1)
    changed = replace(known, authorities=(made.certificate, *others), keys=(made.key, *known.keys))
    return Renewal(replace(_stored(held, changed), published=None), sentences)


def _signed(
    held: Material, known: _Known, names: tuple[str, ...], now: datetime, *, settled: bool, settle: timedelta
) -> Renewal:
    """A new serving certificate if one is due, else a shorter bundle if that is."""
    newest, current = known.authorities[0], known.current()
    if current is None:
        # Nobody can be served with what there is, so there is nothing to wait for. Older ones are better known.
        candidates = known.authorities if settled else tuple(reversed(known.authorities))
    else:
        candidates = (newest,) if settled else (current,)
    signer = next((each for each in map(known.signer, candidates) if each is not None), None)
    due = _serving_due(known, names, now)
    if not due and settled and current is not newest:
        due = "the new authority is published: it signs the serving certificate from now on"
    if due and signer is not None:
        issued = _issue(signer, names, now, known.serving)
        changed = replace(known, serving=issued, keys=known.keys[:1] if signer.certificate is newest else known.keys)
        return Renewal(_stored(held, changed), (*known.faults, due))
    if (
        len(known.authorities) > 1
        and current is newest
        and known.serving is not None
        and now - x509.created_at(known.serving.certificate) >= settle
    ):
        changed = replace(known, authorities=(newest,), keys=known.keys[:1])
        return Renewal(
            _stored(held, changed), ("nothing that an older authority signed is served any more: it leaves the bundle",)
        )
    return Renewal(held)


def _issue(signer: x509.Authority, names: tuple[str, ...], now: datetime, before: x509.Issued | None) -> x509.Issued:
    # What is good for longer, since a clock was set back, stays so: one of two clocks is wrong, and it suits both.
    until = max([now + SERVING_FOR, *([before.certificate.not_valid_after_utc] if before else [])])
    return signer.serving(COMMON_NAME, names, now=now, until=min(until, signer.certificate.not_valid_after_utc))


def _authority_due(known: _Known, now: datetime) -> str:
    """Why a new authority is needed, "" where none is."""
    if not known.authorities:
        return "there is no authority that can be used: one is made"
    newest = known.authorities[0]
    if known.signer(newest) is None:
        return "the key of the newest authority is lost: a new authority is made, and will take over"
    if newest.not_valid_after_utc - now <= AUTHORITY_RENEWED_BEFORE:
        return f"the authority ends on {_said(newest.not_valid_after_utc)}: a new one is made, and will take over"
    if now < newest.not_valid_before_utc:
        return (
            f"the authority begins on {_said(newest.not_valid_before_utc)}, which is not yet, so a clock was or is wrong:"
            " a new one is made, and will take over"
        )
    return ""


def _serving_due(known: _Known, names: tuple[str, ...], now: datetime) -> str:
    """Why a new serving certificate is needed, "" where none is."""
    if known.serving is None:
        return "there is no serving certificate that can be used: one is issued"
    served = known.serving.certificate
    have = x509.hosts_of(served)
    if have != frozenset(names):
        return f"the hosts are now {', '.join(names)} and were {', '.join(sorted(have)) or 'none'}: a certificate is issued for them"
    begin, end = x509.created_at(served), served.not_valid_after_utc
    if now >= begin + (end - begin) * 2 / 3:
        return f"the serving certificate ends on {_said(end)} and two thirds of its time are over: it is renewed"
    if now < served.not_valid_before_utc:
        return (
            f"the serving certificate begins on {_said(served.not_valid_before_utc)}, which is not yet, so a clock was or is"
            " wrong: it is issued again"
        )
    return ""


def _read(held: Material, now: datetime) -> _Known:
    """What of the material can be used."""
    found, faults = _authorities(held.bundle)
    authorities = tuple(each for each in found if each.not_valid_after_utc > now)
    faults += [f"an authority ended on {_said(each.not_valid_after_utc)}" for each in found if each not in authorities]
    keys = []
    for block in x509.key_blocks_of(held.authority_keys):
        try:
            keys.append(x509.load_key(block))
        except x509.UnreadableCertificate as error:
            faults.append(f"a key in {AUTHORITY_KEYS} is damaged: {error}")
    # In the order of the bundle, and only such as belong to it.
    kept = tuple(key for each in authorities for key in keys if x509.belong_together(each, key))
    serving, fault = _serving(held, authorities, now)
    return _Known(authorities, tuple(dict.fromkeys(kept)), serving, (*faults, *fault))


def _authorities(bundle: bytes) -> tuple[tuple[certificates.Certificate, ...], list[str]]:
    """The authorities of a bundle, each once, in order; and what else is in it, as sentences."""
    found: dict[certificates.Certificate, None] = {}
    faults = []
    for block in x509.blocks_of(bundle):
        try:
            certificate = x509.load_certificate(block)
        except x509.UnreadableCertificate as error:
            faults.append(f"a certificate in {BUNDLE} is damaged: {error}")
            continue
        if x509.is_authority(certificate):
            found[certificate] = None
        else:
            faults.append(f"a certificate in {BUNDLE} is no authority that signed itself")
    return tuple(found), faults


def _serving(
    held: Material, authorities: Iterable[certificates.Certificate], now: datetime
) -> tuple[x509.Issued | None, tuple[str, ...]]:
    """The serving certificate, if it is good for anything; else why not."""
    if not held.certificate and not held.key:
        return None, ()
    try:
        issued = x509.Issued(x509.load_certificate(held.certificate), x509.load_key(held.key))
    except x509.UnreadableCertificate as error:
        return None, (f"{CERTIFICATE} or {KEY} is damaged: {error}",)
    if not x509.belong_together(issued.certificate, issued.key):
        return None, (f"{CERTIFICATE} and {KEY} do not belong together",)
    if issued.certificate.not_valid_after_utc <= now:
        return None, (f"the serving certificate ended on {_said(issued.certificate.not_valid_after_utc)}",)
    if not any(x509.signed_by(issued.certificate, each) for each in authorities):
        return None, (f"{CERTIFICATE} was signed by no authority of {BUNDLE}",)
    return issued, ()


def _stored(held: Material, known: _Known) -> Material:
    """Material that holds what is known; a serving certificate that is good for nothing stays until there is another."""
    return replace(
        held,
        bundle=b"".join(map(x509.certificate_pem, known.authorities)),
        authority_keys=b"".join(map(x509.key_pem, known.keys)),
        certificate=held.certificate if known.serving is None else known.serving.certificate_pem,
        key=held.key if known.serving is None else known.serving.key_pem,
    )


def _time(text: bytes) -> datetime | None:
    try:
        found = datetime.fromisoformat(text.decode())
    except ValueError:
        return None
    return None if found.tzinfo is None else found.astimezone(UTC)


def _said(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M} UTC"
