"""A TCP proxy in front of Postgres that breaks sessions where a test says so.

It reads along far enough to know what each transaction has done. So it can cut a session right before COMMIT is forwarded, or after
it was and before the answer comes back, for the transaction of the test's choice; fall silent; be slow; refuse; and count.
"""

from __future__ import annotations

import contextlib
import socket
import struct
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from types import TracebackType
from typing import Self

from sqlalchemy import make_url

_LOOPBACK = "127.0.0.1"
_TLS_REQUESTS = (80877103, 80877104)  # SSLRequest, GSSENCRequest
_CANCEL_REQUEST = 80877102
_BYTES = 1 << 16


@dataclass(frozen=True, slots=True)
class _Cut:
    """Cut the session of a transaction that has run a statement with this text, when it commits."""

    marker: str
    answered: bool  # the server has committed, and the answer is lost


@dataclass(slots=True)
class _Session:
    client: socket.socket
    server: socket.socket
    silent: bool = False
    lose_answer: bool = False
    prepared: dict[str, str] = field(default_factory=dict)
    transaction: list[str] = field(default_factory=list)

    def close(self) -> None:
        for each in (self.client, self.server):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()


class PgProxy:
    """Forwards loopback connections to the port that `target` names.

    Attributes:
        port: where it listens.
        connections: that were made through it.
        statements: that were executed through it.
    """

    def __init__(self, target: Callable[[], int]) -> None:
        self._target = target
        self._lock = threading.Lock()
        self._sessions: list[_Session] = []
        self._threads: list[threading.Thread] = []
        self._cut: _Cut | None = None
        self._delay_seconds = 0.0
        self._ended = threading.Event()
        self.connections = 0
        self.statements = 0
        self._listener = self._listen(0)
        self.port: int = self._listener.getsockname()[1]

    def __enter__(self) -> Self:
        self._run(self._accept, self._listener)
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._ended.set()
        self._close(self._listener)
        self.cut()
        for each in self._threads:
            each.join(10)

    def through(self, url: str) -> str:
        """The same database, through the proxy."""
        return make_url(url).set(host=_LOOPBACK, port=self.port).render_as_string(hide_password=False)

    # Faults.

    def cut(self) -> None:
        """Cut every session."""
        with self._lock:
            sessions, self._sessions = self._sessions, []
        for each in sessions:
            each.close()

    def cut_at_commit(self, marker: str, *, answered: bool) -> None:
        """Cut the next session that commits a transaction which ran a statement with this text, before or after the commit."""
        with self._lock:
            self._cut = _Cut(marker, answered)

    @property
    def armed(self) -> bool:
        """Whether such a cut is still to come."""
        with self._lock:
            return self._cut is not None

    def fall_silent(self) -> None:
        """Forward nothing more of the sessions there are, for ever; their connections stay open. New ones are forwarded."""
        with self._lock:
            for each in self._sessions:
                each.silent = True

    def slow(self, delay_seconds: float) -> None:
        """Forward what the client says only after so long."""
        self._delay_seconds = delay_seconds

    # What it does.

    @staticmethod
    def _listen(port: int) -> socket.socket:
        listener = socket.socket()
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        listener.bind((_LOOPBACK, port))
        listener.listen(128)
        return listener

    @staticmethod
    def _close(listener: socket.socket) -> None:
        with contextlib.suppress(OSError):
            listener.shutdown(socket.SHUT_RDWR)
        listener.close()

    def _run(self, work: Callable[..., None], *arguments: object) -> None:
        thread = threading.Thread(target=work, args=arguments, name="pg-proxy", daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, listener: socket.socket) -> None:
        while not self._ended.is_set():
            try:
                client, _ = listener.accept()
            except OSError:
                return
            self.connections += 1
            try:
                server = socket.create_connection((_LOOPBACK, self._target()), timeout=5)
            except OSError:
                client.close()
                continue
            server.settimeout(None)
            session = _Session(client, server)
            with self._lock:
                self._sessions.append(session)
            self._run(self._from_client, session)
            self._run(self._from_server, session)

    def _from_server(self, session: _Session) -> None:
        with contextlib.suppress(OSError):
            while data := session.server.recv(_BYTES):
                if session.lose_answer:
                    break
                if session.silent:
                    continue
                session.client.sendall(data)
        if not session.silent:
            session.close()

    def _from_client(self, session: _Session) -> None:
        pending = b""
        greeted = False
        with contextlib.suppress(OSError):
            while data := session.client.recv(_BYTES):
                if session.silent:
                    continue
                pending += data
                if self._delay_seconds:
                    self._ended.wait(self._delay_seconds)
                out = b""
                while (size := _size(pending, greeted)) is not None:
                    message, pending = pending[:size], pending[size:]
                    if not greeted:
                        (code,) = struct.unpack_from("!I", message, 4)
                        if code in _TLS_REQUESTS:
                            session.client.sendall(b"N")
                            continue
                        greeted = code != _CANCEL_REQUEST
                    elif self._ends_with(session, message):
                        session.server.sendall(out + message if session.lose_answer else out)
                        if not session.lose_answer:
                            session.close()
                        break
                    out += message
                else:
                    session.server.sendall(out)
        session.close()

    def _ends_with(self, session: _Session, message: bytes) -> bool:
        """Note what a message of the client runs; whether the session is to be cut at it."""
        text = _statement(session, message)
        if text is None:
            return False
        self.statements += 1
        word = text.lstrip().split(None, 1)[0].upper().rstrip(";") if text.strip() else ""
        if word == "BEGIN":
            session.transaction = []
        if word != "COMMIT":
            session.transaction.append(text)
            return False
        with self._lock:
            cut = self._cut
            if cut is None or not any(cut.marker in each for each in session.transaction):
                return False
            self._cut = None
        session.lose_answer = cut.answered
        return True


def _size(pending: bytes, greeted: bool) -> int | None:
    """How long the first message is, None if it is not there yet. Before the greeting messages have no type."""
    head = 1 if greeted else 0
    if len(pending) < head + 4:
        return None
    size: int = head + struct.unpack_from("!I", pending, head)[0]
    return size if len(pending) >= size else None


def _statement(session: _Session, message: bytes) -> str | None:
    """The statement that a message runs: at once, or a prepared one that it gives its values to."""
    kind, body = message[:1], message[5:]
    if kind == b"Q":
        return body.rstrip(b"\0").decode(errors="replace")
    if kind == b"P":
        name, query, _ = body.split(b"\0", 2)
        session.prepared[name.decode()] = query.decode(errors="replace")
    elif kind == b"B":
        _, name, _ = body.split(b"\0", 2)
        return session.prepared.get(name.decode(), "")
    return None
