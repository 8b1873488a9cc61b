"""`aiqueue controller`: the process that holds, decides and starts."""

from __future__ import annotations

import sys

import structlog

from aiqueue.queue.settings import Settings


def run(settings: Settings) -> None:
    """Run the controller in the foreground until SIGTERM or SIGINT.

    Raises:
        AiqueueError: it could not start or go on; the sentence says what to do.
    """
    from aiqueue.admission.controller import process

    configure_logging()
    process.main(settings)


def configure_logging() -> None:
    """JSON lines in a cluster, colours on a terminal. To stderr: stdout is for data."""
    renderer: structlog.typing.Processor = (
        structlog.dev.ConsoleRenderer() if sys.stderr.isatty() else structlog.processors.JSONRenderer()
    )
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.processors.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.processors.format_exc_info,
            renderer,
        ],
        logger_factory=structlog.PrintLoggerFactory(file=sys.stderr),
    )
