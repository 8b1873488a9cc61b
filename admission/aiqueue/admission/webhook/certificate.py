"""The certificate that is served: read again whenever the content of its files changes.

Each pair gets a TLS context of its own, and connections are given the newest at their handshake. So a pair is served whole or not
at all, connections that are open keep what they have, and a pair that is broken changes nothing.

The content is compared, not the files' identity: kubelet swaps a symbolic link above them.
"""

from __future__ import annotations

import hashlib
import ssl
from pathlib import Path

import structlog

_log = structlog.get_logger()
CERTIFICATE, KEY = "tls.crt", "tls.key"


class ServedCertificate:
    """The pair in a folder, and the TLS context that serves it."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._seen: bytes | None = None
        self._newest: ssl.SSLContext | None = None
        #: Why the files as they are now cannot be served, as a sentence; empty if they are.
        self.problem = f"no certificate was read from {folder} yet"
        #: What a server listens with; it has no certificate of its own.
        self.context = _context()
        self.context.sni_callback = self._give_newest

    @property
    def good(self) -> bool:
        """Whether there is a pair to serve, the present or an earlier one."""
        return self._newest is not None

    def refresh(self) -> None:
        """Read the files, and serve them if they changed and fit together."""
        seen = self._fingerprint()
        if seen is None or seen == self._seen:
            return
        context = _context()
        try:
            context.load_cert_chain(self._folder / CERTIFICATE, self._folder / KEY, password=_no_password)
        except (OSError, ValueError) as error:  # an SSLError is an OSError
            if self._fingerprint() == seen:  # not just being written
                self._seen = seen
                reason = getattr(error, "reason", None) or str(error)
                self._complain(f"{CERTIFICATE} and {KEY} in {self._folder} are no pair to serve ({reason}): write both anew")
            return
        if self._fingerprint() != seen:
            return  # replaced while being read: the next look finds them whole
        self._seen, self._newest, self.problem = seen, context, ""
        _log.info("certificate served", folder=str(self._folder), sha256=seen.hex()[:16])

    def _fingerprint(self) -> bytes | None:
        digest = hashlib.sha256()
        for name in (CERTIFICATE, KEY):
            try:
                digest.update(hashlib.sha256((self._folder / name).read_bytes()).digest())
            except OSError as error:
                self._complain(f"{self._folder / name} cannot be read ({error.strerror or error}): it is waited for")
                return None
        return digest.digest()

    def _complain(self, problem: str) -> None:
        if problem != self.problem:
            self.problem = problem
            _log.warning("certificate not served", why=problem, serving_an_older_one=self.good)

    def _give_newest(self, handshake: ssl.SSLObject, _name: str | None, _context: ssl.SSLContext) -> int | None:
        if self._newest is None:
            return ssl.ALERT_DESCRIPTION_INTERNAL_ERROR
        handshake.context = self._newest
        return None


def _context() -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    return context


def _no_password() -> str:
    """OpenSSL would otherwise ask for it on the terminal."""
    raise ValueError("the key is encrypted")
