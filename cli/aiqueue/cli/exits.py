"""Exit codes, and errors as sentences: whatever goes wrong on purpose ends a command without a traceback."""

from __future__ import annotations

import io
import sys
from collections.abc import Iterable
from enum import IntEnum
from typing import TYPE_CHECKING

from aiqueue.queue.documents import InvalidDocuments
from aiqueue.queue.errors import AiqueueError, LedgerError, NotFound

if TYPE_CHECKING:
    from pydantic import ValidationError


class Exit(IntEnum):
    """What a command's exit code means."""

    OK = 0
    REFUSED = 1
    USAGE = 2
    LEDGER = 3
    NOT_FOUND = 4
    OUTPUT = 5


EPILOG = (
    "Exit codes: 0 done; 1 refused, or the input is invalid; 2 wrong usage;"
    " 3 the ledger is unavailable or of another version; 4 not found; 5 stdout cannot be written."
    " Data goes to stdout, messages to stderr. The ledger is named by the environment variable AIQUEUE_DATABASE_URL."
)


class InvalidSettings(AiqueueError):
    """An `AIQUEUE_` environment variable is missing or wrong."""


class WrongUsage(AiqueueError):
    """Options that do not go together."""


class Unwritable(AiqueueError):
    """What was to be printed cannot be written to stdout."""


def exit_code(error: AiqueueError) -> Exit:
    """The exit code that says what happened."""
    if isinstance(error, LedgerError):
        return Exit.LEDGER
    if isinstance(error, NotFound):
        return Exit.NOT_FOUND
    if isinstance(error, Unwritable):
        return Exit.OUTPUT
    return Exit.USAGE if isinstance(error, WrongUsage) else Exit.REFUSED


def say(message: str) -> None:
    """Write a message for the person, not for a program, to stderr. Where nobody can be told, nobody is."""
    if sys.stderr is None:  # closed before we began; print would take stdout in its place
        return
    try:
        print(message, file=sys.stderr)
    except OSError:
        # What lies in its buffer would fail once more when the interpreter ends, and put 120 in the place of our exit code.
        sys.stderr = io.StringIO()


def report(error: AiqueueError) -> Exit:
    """Say every sentence of the error; returns the exit code."""
    for each in error.errors if isinstance(error, InvalidDocuments) else (error,):
        say(f"error: {' '.join(str(each).split())}")  # what a driver says may have several lines
    return exit_code(error)


def settings_error(error: ValidationError) -> InvalidSettings:
    """The variables that pydantic refused, without their values, which may be secrets."""
    wrong: Iterable[str] = (
        f"AIQUEUE_{'__'.join(str(part) for part in each['loc']).upper()}: {each['msg']}"
        for each in error.errors(include_url=False, include_input=False, include_context=False)
    )
    return InvalidSettings(f"environment variable {'; '.join(wrong)}")
