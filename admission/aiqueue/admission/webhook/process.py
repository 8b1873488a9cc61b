"""The process `aiqueue webhook`.

starting -> ready:    a configuration was loaded and a certificate is there
         -> draining: at the first SIGTERM or SIGINT; not ready any more, goes on answering, each answer the last of its connection
         -> ended:    after `webhook_drain_seconds`, or at once at the second signal: nothing more is accepted, what is in flight is
                      finished, exit 0
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
import socket
import sys
from collections.abc import Callable

import structlog
import uvloop

from aiqueue.admission import strays
from aiqueue.admission.webhook import server
from aiqueue.admission.webhook.app import Application
from aiqueue.admission.webhook.certificate import ServedCertificate
from aiqueue.admission.webhook.follower import ConfigurationFollower
from aiqueue.admission.webhook.judge import UNCONFIRMED_SECONDS, Judge
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.settings import Settings

_log = structlog.get_logger()
_CERTIFICATE_SECONDS = 1.0
#: Switching between threads costs the event loop at most this, while a large configuration is being loaded.
_SWITCH_SECONDS = 0.001


class Webhook:
    """One webhook process; it is also its own `Condition`."""

    def __init__(self, settings: Settings) -> None:
        url = settings.database_url.get_secret_value()
        if not url:
            raise InvalidInput("AIQUEUE_DATABASE_URL", "", "set it to the ledger, postgresql://user@host:port/database")
        folder = settings.webhook_certificate_folder
        if folder is None:
            raise InvalidInput(
                "AIQUEUE_WEBHOOK_CERTIFICATE_FOLDER", "", "set it to the folder that holds, or will hold, tls.crt and tls.key"
            )
        self._drain_seconds = settings.webhook_drain_seconds
        self._follower = ConfigurationFollower(url)
        self._certificate = ServedCertificate(folder)
        self._application = Application(Judge(self._follower), self)
        self._server = server.Server(self._application, self._certificate.context)
        self._socket: socket.socket = server.listen(settings.webhook_address, share_port=settings.webhook_share_port)
        self._draining = False

    @property
    def draining(self) -> bool:
        """Whether it was asked to stop."""
        return self._draining

    def sick(self) -> list[str]:
        """Why it should be started anew; that the event loop turns is shown by there being an answer."""
        return [] if self._follower.lives else ["the thread that follows the configuration has ended: see the log"]

    def problems(self) -> list[str]:
        """Why it is not ready."""
        found = self.sick()
        if self._draining:
            found.append("this webhook was asked to stop")
        if not self._certificate.good:
            found.append(self._certificate.problem)
        if self._follower.current() is None:
            found.append(f"no configuration was loaded yet: {self._follower.last_error or 'the first read is under way'}")
        return found

    def remarks(self) -> list[str]:
        """What is wrong while it is ready."""
        found = []
        known = self._follower.current()
        if known is not None and known.unconfirmed_seconds > UNCONFIRMED_SECONDS:
            why = self._follower.last_error or "it does not answer"
            found.append(
                f"the ledger is away for {known.unconfirmed_seconds:.0f} s, so Jobs are let in with a warning where it would be asked:"
                f" {why}"
            )
        if self._certificate.problem:
            found.append(f"an older certificate is served: {self._certificate.problem}")
        return found

    async def run(self) -> None:
        """Serve until asked to stop."""
        loop = asyncio.get_running_loop()
        for number in (signal.SIGTERM, signal.SIGINT):
            loop.add_signal_handler(number, self._asked_to_stop)
        self._certificate.refresh()
        self._follower.start()
        watching = asyncio.create_task(self._watch_certificate())
        try:
            await self._server.serve(sockets=[self._socket])
        finally:
            watching.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await watching
            self._application.close()
            self._follower.stop()
            _log.info("webhook ended")

    def _asked_to_stop(self) -> None:
        if self._draining:
            self._server.force_exit = True
            self._server.should_exit = True
            return
        self._draining = True
        _log.info("draining", seconds=self._drain_seconds)
        asyncio.get_running_loop().call_later(self._drain_seconds, self._drained)

    def _drained(self) -> None:
        self._server.should_exit = True

    async def _watch_certificate(self) -> None:
        while True:
            await asyncio.sleep(_CERTIFICATE_SECONDS)
            await asyncio.to_thread(self._certificate.refresh)


def _loop_factory() -> Callable[[], asyncio.AbstractEventLoop]:
    return uvloop.new_event_loop


def main(settings: Settings) -> None:
    """Run a webhook until SIGTERM or SIGINT.

    Raises:
        AiqueueError: it could not start.
    """
    strays.gather(logging.ERROR)  # whoever connects may cause warnings
    sys.setswitchinterval(_SWITCH_SECONDS)
    webhook = Webhook(settings)
    with asyncio.Runner(loop_factory=_loop_factory()) as runner:
        runner.run(webhook.run())
