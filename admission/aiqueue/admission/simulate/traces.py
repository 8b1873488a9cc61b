"""Reading a trace: a job table (csv), or a Standard Workload Format file.

A job table has one job a line under a header. Columns may stand in any order, others than these are passed over.

    job_id tenant submit_s duration_s pods gpus_per_pod     required
    cpus_per_pod                                            optional, may be empty
    user gpu_model status req_s rec_wait_s                  known, not used: jobs are of one kind of device and run as long
                                                            as they ran

A job asks for one pod set `main` of `pods` pods. `gpus_per_pod` is counted as `nvidia.com/gpu`, whole devices: a part of one
takes all of it, as with any device plugin, and the trace's notes say of how many jobs. `cpus_per_pod` is read to the millicore,
rounded up. Jobs that ran no time are left out, and the notes say how many.
"""

from __future__ import annotations

import csv
import re
from collections.abc import Sequence
from contextlib import closing
from operator import itemgetter
from pathlib import Path

from aiqueue.admission.simulate.swf import read_swf
from aiqueue.admission.simulate.tracefile import (
    GPU,
    MAX_JOBS,
    InvalidTrace,
    Shapes,
    Trace,
    TraceErrors,
    TraceJob,
    by_arrival,
    lines,
    microseconds,
)
from aiqueue.queue.documents import raise_if_any
from aiqueue.queue.documents.problems import MISSING, Phrase
from aiqueue.queue.units import parse_amount

REQUIRED = ("job_id", "tenant", "submit_s", "duration_s", "pods", "gpus_per_pod")
OPTIONAL = ("cpus_per_pod",)
_TIME = "write seconds of zero or more, such as 10082 or 0.5, at most 100 years"
_NAME = ", at most 253 printable characters"
_MAX_PODS = 1_000_000
_NUMBER = re.compile(r"[0-9]{1,9}(?:\.[0-9]{1,9})?", re.ASCII)


def read_trace(path: Path) -> Trace:
    """Read a trace; the name of the file says what it is: .csv or .swf, either followed by .gz.

    Raises:
        InvalidInput: it is neither, it cannot be read, or something is wrong in it; several errors are told, up to a bound.
    """
    name = path.name.lower().removesuffix(".gz")
    if name.endswith(".csv"):
        return _Table(path).read()
    if name.endswith(".swf"):
        return read_swf(path)
    raise InvalidTrace("--trace", str(path), "name a file that ends in .csv, .csv.gz, .swf or .swf.gz")


class _Table:
    """A job table as it is read."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.reader = csv.reader(())
        self.errors = TraceErrors(str(path))
        self.shapes = Shapes()
        self.jobs: list[TraceJob] = []
        self.seen: dict[str, int] = {}  # job -> line
        self.asked: dict[tuple[str, str, str], tuple[int, bool]] = {}  # cells -> place of the shape, whether a part was asked
        self.partial = 0

    def read(self) -> Trace:
        """All of it."""
        with closing(lines(self.path)) as text:
            self.reader = csv.reader(text, strict=True)
            try:
                header = [name.strip() for name in next(self.reader, ())]
                columns = self._columns(header)
                raise_if_any(self.errors.errors)
                self._rows(len(header), columns)
            except csv.Error as error:
                fix = f"put quotes round whole cells only, and close them ({error})"
                self.errors.at(self.reader.line_num, "the line", Phrase("no csv"), fix)
        raise_if_any(self.errors.errors)
        notes: list[str] = []
        if len(self.jobs) < len(self.seen):
            notes.append(f"left out {len(self.seen) - len(self.jobs)} of {len(self.seen)} jobs, which ran no time")
        if self.partial:
            notes.append(f"{self.partial} jobs ask for part of a device in each pod, which takes the whole of it")
        return Trace(str(self.path), tuple(self.shapes.known), by_arrival(self.jobs), tuple(notes))

    def _columns(self, header: Sequence[str]) -> list[int]:
        """The places of the columns that are used; an optional one that is missing stands behind the last."""
        if not header:
            self.errors.at(1, "the header", MISSING, f"begin with a line that names the columns: {','.join(REQUIRED)}")
        for name in (*REQUIRED, *OPTIONAL):
            if header.count(name) > 1:
                self.errors.at(1, name, Phrase("given twice"), "keep one column of that name")
            elif header and name in REQUIRED and name not in header:
                self.errors.at(1, name, MISSING, f"the header must name {', '.join(REQUIRED)}")
        return [header.index(name) if name in header else len(header) for name in (*REQUIRED, *OPTIONAL)]

    def _rows(self, width: int, columns: Sequence[int]) -> None:
        cells = itemgetter(*columns)
        for row in self.reader:
            if len(row) == width:
                row.append("")  # the cell of columns that are missing
                self._row(cells(row))
            elif row:
                fix = f"write {width} cells, as in the header"
                self.errors.at(self.reader.line_num, "the line", Phrase(f"{len(row)} cells"), fix)
            if len(self.seen) > MAX_JOBS:
                self.errors.at(self.reader.line_num, "the file", Phrase("too long"), f"write at most {MAX_JOBS} jobs")
                return
            if self.errors.enough:
                return

    def _row(self, cells: Sequence[str]) -> None:
        name, tenant, submit, duration, *asked = cells
        arrival_us, runtime_us = microseconds(submit), microseconds(duration)
        first = self.seen.setdefault(name, self.reader.line_num)
        key = (asked[0], asked[1], asked[2])
        shape = self.asked.get(key) or self._shape(key)
        if (
            not (name and tenant and arrival_us is not None and runtime_us is not None and shape)
            or first != self.reader.line_num
        ):
            self._say_what_is_wrong(cells, first)
            return
        if runtime_us:
            self.jobs.append(TraceJob(name, tenant, arrival_us, runtime_us, shape[0]))
            self.partial += shape[1]

    def _shape(self, cells: tuple[str, str, str]) -> tuple[int, bool] | None:
        """What these cells ask for; None, and an error for each, where they are wrong."""
        line, known = self.reader.line_num, len(self.errors.errors)
        pods, gpus, cpus = (cell.strip() for cell in cells)
        if not (pods.isascii() and pods.isdecimal() and 0 < int(pods[:8]) <= _MAX_PODS):
            self.errors.at(line, "pods", pods, f"write a whole number from 1 to {_MAX_PODS}")
        amount = self._amount("gpus_per_pod", GPU, gpus)
        millicores = self._amount("cpus_per_pod", "cpu", cpus or "0")
        if amount is None or millicores is None or len(self.errors.errors) > known:
            return None
        found = self.asked[cells] = (self.shapes.place(int(pods), amount, millicores), float(gpus) != amount)
        return found

    def _amount(self, column: str, resource: str, cell: str) -> int | None:
        if _NUMBER.fullmatch(cell):
            return parse_amount(resource, cell, field=column)
        self.errors.at(self.reader.line_num, column, cell, "write a number such as 8 or 0.5, below 10^9")
        return None

    def _say_what_is_wrong(self, cells: Sequence[str], first: int) -> None:
        """An error for each wrong cell but those of the shape, which were told."""
        line = self.reader.line_num
        name, tenant, submit, duration = cells[:4]
        if not _is_name(name):
            self.errors.at(line, "job_id", name, f"give each job a name of its own{_NAME}")
        elif first != line:
            self.errors.at(line, "job_id", name, f"give each job a name of its own: line {first} has the same")
        if not _is_name(tenant):
            self.errors.at(line, "tenant", tenant, f"write the name of the tenant whose job it is{_NAME}")
        for column, cell in (("submit_s", submit), ("duration_s", duration)):
            if microseconds(cell) is None:
                self.errors.at(line, column, cell, _TIME)


def _is_name(text: str) -> bool:
    return 0 < len(text) <= 253 and text.isprintable()
