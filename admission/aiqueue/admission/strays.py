"""Words that would reach stderr past the log: what libraries log or warn of, and errors that end a thread or are dropped by the interpreter.

A process that logs JSON lines is read by programs, which make nothing of a bare traceback. So each of these is a line like any other, and what
nobody expected says so and carries its stack.

An error is dropped, and a library may log, wherever the interpreter happens to clean up: in the midst of a line of the log for one, which holds
a lock. So these lines are left to a thread. It tells what it was left when the process ends; what comes later still is lost.
"""

from __future__ import annotations

import atexit
import logging
import queue
import sys
import threading
import traceback
from dataclasses import dataclass
from types import TracebackType

import psycopg
import structlog
from sqlalchemy.exc import DBAPIError

_log = structlog.get_logger()
_MOST_CHARACTERS = 1000
_LAST_SECONDS = 2.0  # for what is left when the process ends


@dataclass(frozen=True, slots=True)
class _Line:
    """A line of the log that is yet to be written."""

    level: int
    event: str
    told: dict[str, str]


class _Libraries(logging.Handler):
    """Brings what libraries log into our log."""

    def emit(self, record: logging.LogRecord) -> None:
        error, told = record.exc_info[1] if record.exc_info else None, {"logger": record.name, "says": _said(record)}
        if isinstance(error, psycopg.Error | DBAPIError):  # a session broke while it was given back, and the pool got over it
            told["error"] = str(error)[:_MOST_CHARACTERS]
        elif error is not None:
            told["exception"] = _stack(type(error), error, error.__traceback__)
        _lines.put(_Line(logging.ERROR if record.levelno >= logging.ERROR else logging.WARNING, "library", told))


#: Its `put` may be called anywhere, the interpreter's cleaning up included. None ends the thread.
_lines: queue.SimpleQueue[_Line | None] = queue.SimpleQueue()


def gather(level: int = logging.WARNING) -> None:
    """Have the log tell of them from now on, for the whole process. Call it once.

    Args:
        level: of what libraries log; what is below is left out.
    """
    logging.basicConfig(level=level, handlers=[_Libraries()], force=True)
    logging.captureWarnings(capture=True)
    threading.excepthook = _thread_ended
    sys.unraisablehook = _dropped
    writer = threading.Thread(target=_write, name="strays", daemon=True)
    writer.start()
    atexit.register(_end, writer)


def _said(record: logging.LogRecord) -> str:
    """What is logged; a library that gives its words the wrong arguments is not to fail by that."""
    try:
        return record.getMessage()[:_MOST_CHARACTERS]
    except (LookupError, TypeError, ValueError):
        return f"{record.msg} {record.args!r}"[:_MOST_CHARACTERS]


def _thread_ended(ended: threading.ExceptHookArgs) -> None:
    name = ended.thread.name if ended.thread is not None else ""
    stack = _stack(ended.exc_type, ended.exc_value, ended.exc_traceback)
    _log.error("a thread ended in a way nobody expected", thread=name, exception=stack)


def _dropped(dropped: sys.UnraisableHookArgs) -> None:
    where = f"{dropped.err_msg or 'in'} {dropped.object!r}, in the thread {threading.current_thread().name}"
    told = {
        "where": where[:_MOST_CHARACTERS],
        "exception": _stack(dropped.exc_type, dropped.exc_value, dropped.exc_traceback),
    }
    _lines.put(_Line(logging.ERROR, "an error was dropped, which nobody expected", told))


def _write() -> None:
    while (line := _lines.get()) is not None:
        _log.log(line.level, line.event, **line.told)


def _end(writer: threading.Thread) -> None:
    _lines.put(None)
    writer.join(_LAST_SECONDS)


def _stack(kind: type[BaseException], error: BaseException | None, at: TracebackType | None) -> str:
    return "".join(traceback.format_exception(kind, error, at)).rstrip()
