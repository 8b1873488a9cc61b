"""A small client for a Kubernetes API server: JSON over HTTPS with a client certificate, standard library only.

The harness needs a dozen calls; the official client takes longer to import than the server takes to answer them.
"""

from __future__ import annotations

import json
import select
import socket
import ssl
import weakref
from dataclasses import dataclass
from http.client import HTTPException, HTTPSConnection
from pathlib import Path
from typing import Any

from aiqueue.cli.harness.certificates import Pair
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.ports import LOOPBACK

CALL_SECONDS = 30.0


@dataclass(frozen=True, slots=True)
class Answer:
    """What the server said."""

    status: int
    body: bytes

    def json(self) -> dict[str, Any]:
        """The decoded object."""
        content = json.loads(self.body)
        if not isinstance(content, dict):
            raise HarnessError(f"the API server answered with {type(content).__name__} where an object was expected")
        return content


class Api:
    """Calls to one server, from any thread, over connections that are kept: most of a call would be the handshake of TLS.

    Args:
        port: on loopback.
        ca_file: the authority that signed its certificate.
        client: our certificate.
    """

    def __init__(self, port: int, ca_file: Path, client: Pair) -> None:
        self._port = port
        self._context = ssl.create_default_context(cafile=str(ca_file))
        self._context.load_cert_chain(client.certificate, client.key)
        # Those that nobody uses now, the last used first; as many as calls were made at once.
        self._idle: list[HTTPSConnection] = []
        weakref.finalize(self, _close_all, self._idle)

    def ask(
        self,
        method: str,
        path: str,
        body: object = None,
        *,
        content_type: str = "application/json",
        seconds: float = CALL_SECONDS,
    ) -> Answer:
        """Make one call, whatever the status of its answer.

        Raises:
            OSError: the server cannot be reached.
        """
        data = None if body is None else json.dumps(body).encode()
        connection = self._connection(seconds)
        try:
            connection.request(method, path, data, {"Content-Type": content_type, "Accept": "application/json"})
            response = connection.getresponse()
            answer = Answer(response.status, response.read())
        except HTTPException as error:
            connection.close()
            raise ConnectionError(f"the API server broke off: {error!r}") from error
        except BaseException:
            connection.close()
            raise
        self._idle.append(connection)
        return answer

    def _connection(self, seconds: float) -> HTTPSConnection:
        """One that was kept and still stands, else a new one, where each step may take so long."""
        while self._idle:
            try:
                kept = self._idle.pop()
            except IndexError:  # another thread took it
                break
            # Nothing was asked on it, so that what there is to read is its end.
            if kept.sock is not None and not _readable(kept.sock):
                kept.sock.settimeout(seconds)
                return kept
            kept.close()
        return HTTPSConnection(LOOPBACK, self._port, context=self._context, timeout=seconds)

    def call(self, method: str, path: str, body: object = None, *, content_type: str = "application/json") -> dict[str, Any]:
        """Make one call that must succeed, and return the object answered.

        Raises:
            HarnessError: the server refused; carries its message.
            OSError: the server cannot be reached.
        """
        answer = self.ask(method, path, body, content_type=content_type)
        if answer.status >= 300:
            raise HarnessError(f"{method} {path} was answered {answer.status}: {_message(answer)}")
        return answer.json()

    def is_ok(self, path: str) -> bool:
        """Whether a GET of this path is answered 200 now; an unreachable server is a no."""
        try:
            return self.ask("GET", path, seconds=5.0).status == 200
        except OSError:
            return False

    def apply(self, path: str, content: dict[str, Any]) -> None:
        """Create or replace the object at `path` by server-side apply, as field manager `aiqueue-dev`."""
        self.call("PATCH", f"{path}?fieldManager=aiqueue-dev&force=true", content, content_type="application/apply-patch+yaml")


def _readable(connection: socket.socket) -> bool:
    poll = select.poll()
    poll.register(connection, select.POLLIN)
    return bool(poll.poll(0))


def _close_all(connections: list[HTTPSConnection]) -> None:
    while connections:
        connections.pop().close()


def _message(answer: Answer) -> str:
    try:
        return str(answer.json().get("message", answer.body.decode(errors="replace")))
    except (ValueError, HarnessError):
        return answer.body.decode(errors="replace")
