"""`aiqueue webhook`: the process that the API server asks about Jobs."""

from __future__ import annotations

from aiqueue.cli.controller import configure_logging
from aiqueue.queue.settings import Settings


def run(settings: Settings) -> None:
    """Run the webhook in the foreground until SIGTERM or SIGINT.

    Raises:
        AiqueueError: it could not start; the sentence says what to do.
    """
    from aiqueue.admission.webhook import process

    configure_logging()
    process.main(settings)
