"""Standard output that says in a sentence when it cannot be written: a full disk, a pipe that nobody reads from any more.

Without it such a failure shows wherever a buffer happens to run over, or only when the interpreter ends, and as a traceback. Here every command
goes through one file object, which is written out before the exit code is decided.
"""

from __future__ import annotations

import errno
import io
import os
import select
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, cast

from aiqueue.cli.exits import Unwritable, report

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer


@contextmanager
def checked() -> Iterator[None]:
    """Have what the block prints written out when it ends; where that fails the process ends with a sentence and an exit code.

    Where stdout is not the process's own, as in tests, nothing is done.

    Raises:
        SystemExit: stdout could not be written, and nobody within the block has said so.
    """
    before = sys.stdout
    if before is not sys.__stdout__:
        yield
        return
    ours = _made_of(before)
    sys.stdout = ours
    try:
        with _written_out(ours):
            yield
    except Unwritable as error:
        raise SystemExit(report(error)) from None
    finally:
        sys.stdout = before


@contextmanager
def _written_out(ours: io.TextIOWrapper) -> Iterator[None]:
    """Write out what the block printed. How a command means to end gives way to its output not being whole, a defect of it does not."""
    try:
        yield
    except (SystemExit, Unwritable):
        ours.flush()
        raise
    except BaseException:
        with suppress(Unwritable):
            ours.flush()
        raise
    ours.flush()


def _made_of(before: io.TextIOWrapper | None) -> io.TextIOWrapper:
    if before is None:  # closed before we began: nothing may be written to a descriptor that others have got since
        return io.TextIOWrapper(io.BufferedWriter(_Descriptor(None)), encoding="utf-8")
    descriptor = _Descriptor(before.fileno())
    return io.TextIOWrapper(
        # As the interpreter does it for `python -u`: nothing is kept back then.
        cast("io.BufferedWriter", descriptor) if before.write_through else io.BufferedWriter(descriptor),
        encoding=before.encoding,
        errors=before.errors,
        line_buffering=before.line_buffering,
        write_through=before.write_through,
    )


class _Descriptor(io.RawIOBase):
    """Writes to a descriptor until that fails, and after it to nowhere: what still lies in a buffer then must not fail once more."""

    def __init__(self, descriptor: int | None) -> None:
        self._descriptor = descriptor
        self._failed = False

    def writable(self) -> bool:
        return True

    def fileno(self) -> int:
        if self._descriptor is None:
            raise io.UnsupportedOperation("stdout is closed")
        return self._descriptor

    def isatty(self) -> bool:
        return self._descriptor is not None and os.isatty(self._descriptor)

    def write(self, data: ReadableBuffer, /) -> int:
        if self._failed:
            return memoryview(data).nbytes
        try:
            return self._written(data)
        except OSError as error:
            self._failed = True
            why = "whoever read it has closed it" if error.errno == errno.EPIPE else error.strerror or str(error)
            raise Unwritable(f"stdout cannot be written ({why}): what was printed there is not whole") from error

    def _written(self, data: ReadableBuffer) -> int:
        if self._descriptor is None:
            raise OSError(errno.EBADF, "it is closed")
        left = memoryview(data)
        while left.nbytes:
            try:
                left = left[os.write(self._descriptor, left) :]
            except BlockingIOError:  # somebody made it so who has it too
                select.select((), (self._descriptor,), ())
        return memoryview(data).nbytes
