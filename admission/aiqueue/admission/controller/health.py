"""Answers /healthz and /readyz: whether the process lives, and whether it can do its work, in sentences."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import structlog

from aiqueue.queue.errors import InvalidInput

_log = structlog.get_logger()


class _Server(ThreadingHTTPServer):
    daemon_threads = True

    def handle_error(self, *_: object) -> None:
        """Of who hangs up before he has his answer there is nothing to be said; the base class would print a traceback."""
        if not isinstance(sys.exception(), OSError):
            _log.exception("a probe was not answered, which nobody expected")


class Health:
    """A small HTTP server. `problems` returns sentences; none means ready. So does `past_help`; none means alive."""

    def __init__(self, address: str, problems: Callable[[], list[str]], past_help: Callable[[], list[str]] = list) -> None:
        host, _, port = address.rpartition(":")
        if not port.isdigit():
            raise InvalidInput("AIQUEUE_HEALTH_ADDRESS", address, "write host:port, for example 0.0.0.0:8080")

        class Handler(BaseHTTPRequestHandler):
            timeout = 5

            def do_GET(self) -> None:
                asked = {"/healthz": past_help, "/readyz": problems}.get(self.path)
                if asked is not None:
                    found = asked()
                    self._answer(503 if found else 200, "\n".join(found) or "ok")
                else:
                    self._answer(404, "ask for /healthz or /readyz")

            def _answer(self, status: int, text: str) -> None:
                body = f"{text}\n".encode()
                self.send_response(status)
                self.send_header("Content-Type", "text/plain; charset=utf-8")
                self.send_header("Content-Length", str(len(body)))
                self.end_headers()
                self.wfile.write(body)

            def log_message(self, format: str, *args: object) -> None:  # noqa: A002 -- the base class names it so
                """Probes are not worth a line."""

        self._server = _Server((host or "127.0.0.1", int(port)), Handler)
        self._thread = threading.Thread(target=self._server.serve_forever, name="health", daemon=True)

    @property
    def port(self) -> int:
        """The port it listens on."""
        return int(self._server.server_address[1])

    def start(self) -> None:
        """Begin to answer."""
        self._thread.start()

    def stop(self) -> None:
        """Stop answering."""
        self._server.shutdown()
        self._server.server_close()
        self._thread.join(timeout=5)
