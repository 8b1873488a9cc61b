"""Words that would reach stderr past the log: what libraries log, and errors that end a thread or are dropped by the interpreter.

A process that logs JSON lines is read by programs, which make nothing of a bare traceback. So each of these is a line like any other, and what
nobody expected says so and carries its stack.

An error is dropped wherever the interpreter happens to clean up, in the midst of a line of the log for one, which holds a lock: so the line about
it is left to a thread.
"""

from __future__ import annotations

import logging
import queue
import sys
import threading
import traceback
from types import TracebackType

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError

_log = structlog.get_logger()
_MOST_CHARACTERS = 1000


class _Libraries(logging.Handler):
    """Brings what libraries log into our log."""

    def emit(self, record: logging.LogRecord) -> None:
        error, told = record.exc_info[1] if record.exc_info else None, {}
        if isinstance(error, psycopg.Error | DBAPIError):  # a session broke while it was given back, and the pool got over it
            told["error"] = str(error)[:_MOST_CHARACTERS]
        elif error is not None:
            told["exception"] = _stack(type(error), error, error.__traceback__)
        tell = _log.error if record.levelno >= logging.ERROR else _log.warning
        tell("library", logger=record.name, says=record.getMessage()[:_MOST_CHARACTERS], **told)


#: Its `put` may be called anywhere, the interpreter's cleaning up included.
_dropped_errors: queue.SimpleQueue[tuple[str, str]] = queue.SimpleQueue()


def gather(level: int = logging.WARNING) -> None:
    """Have the log tell of them from now on, for the whole process. Call it once.

    Args:
        level: of what libraries log; what is below is left out.
    """
    logging.basicConfig(level=level, handlers=[_Libraries()], force=True)
    threading.excepthook = _thread_ended
    sys.unraisablehook = _dropped
    threading.Thread(target=_tell_of_dropped, name="strays", daemon=True).start()


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread is not None else ""
    stack = _stack(ended.exc_type, ended.exc_value, ended.exc_traceback)
    _log.error("a thread ended in a way nobody expected", thread=name, exception=stack)


def _dropped(dropped: sys.UnraisableHookArgs) -> None:
    where = f"{dropped.err_msg or 'in'} {dropped.object!r}, in the thread {threading.current_thread().name}"
    _dropped_errors.put((where[:_MOST_CHARACTERS], _stack(dropped.exc_type, dropped.exc_value, dropped.exc_traceback)))


def _tell_of_dropped() -> None:
    while True:
        where, stack = _dropped_errors.get()
        _log.error("an error was dropped, which nobody expected", where=where, exception=stack)


def _stack(kind: type[BaseException], error: BaseException | None, at: TracebackType | None) -> str:
    return "".join(traceback.format_exception(kind, error, at)).rstrip()
