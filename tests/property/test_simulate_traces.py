"""Whatever a trace file holds, it gives a trace that fits its promises, or sentences."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest
from hypothesis import event, given
from hypothesis import strategies as st

from aiqueue.admission.simulate.tracefile import MAX_ERRORS, Trace
from aiqueue.admission.simulate.traces import read_trace
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.units import MAX_DURATION_SECONDS
from fix_traces import COLUMNS

_NUMBERS = st.one_of(st.integers(-3, 10**12).map(str), st.floats(-2, 1e6, allow_nan=False).map(str), st.text(max_size=4))
_NAMES = st.one_of(st.text("abcdefghij", min_size=1, max_size=3), st.text(max_size=3))
_ROWS = st.lists(st.tuples(_NAMES, _NAMES, _NUMBERS, _NUMBERS, _NUMBERS, _NUMBERS), max_size=6)
_GOOD = st.integers(0, 10**5).map(str)
_GOOD_ROWS = st.lists(
    st.tuples(
        st.text("abcdefghij", min_size=3, max_size=9), st.sampled_from("tuv"), _GOOD, _GOOD, st.integers(1, 9).map(str), _GOOD
    ),
    max_size=20,
    unique_by=lambda row: row[0],
)
_SWF = st.lists(st.lists(st.one_of(st.integers(-1, 10**6).map(str), st.text(max_size=3)), min_size=17, max_size=19), max_size=5)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("traces")


def read(path: Path, data: bytes) -> Trace | None:
    """The trace, None where it is refused; what is said is bounded, and each sentence names the file."""
    path.write_bytes(data)
    said = ""
    try:
        trace = read_trace(path)
    except InvalidInput as error:
        said = str(error)
    if said:
        event("refused")
        assert 1 <= said.count(str(path)) <= MAX_ERRORS
        return None
    event("a trace of jobs" if trace.jobs else "an empty trace")
    limit = MAX_DURATION_SECONDS * 10**6
    assert [job.arrival_us for job in trace.jobs] == sorted(job.arrival_us for job in trace.jobs)
    assert all(0 <= job.arrival_us <= limit and 0 < job.runtime_us <= limit for job in trace.jobs)
    assert all(job.name and job.tenant for job in trace.jobs)
    assert len({job.name for job in trace.jobs}) == len(trace.jobs)
    assert all(each.count > 0 and min(each.requests.values(), default=1) > 0 for shape in trace.shapes for each in shape)
    return trace


@given(st.binary(max_size=300), st.sampled_from(["a.csv", "a.csv.gz", "a.swf", "a.swf.gz"]), st.booleans())
def test_any_bytes(place: Path, data: bytes, name: str, packed: bool) -> None:
    read(place / name, gzip.compress(data, 1) if packed else data)


@given(_ROWS)
def test_any_cells_under_a_good_header(place: Path, rows: list[tuple[str, ...]]) -> None:
    read(place / "b.csv", "\n".join([",".join(COLUMNS), *(",".join(row) for row in rows)]).encode("utf-8", "surrogatepass"))


@given(_GOOD_ROWS)
def test_good_rows_are_read_as_they_are(place: Path, rows: list[tuple[str, ...]]) -> None:
    trace = read(place / "c.csv", "\n".join([",".join(COLUMNS), *(",".join(row) for row in rows)]).encode())
    assert trace is not None
    assert sorted((job.name, job.tenant, job.arrival_us, job.runtime_us) for job in trace.jobs) == sorted(
        (name, tenant, int(submit) * 10**6, int(duration) * 10**6)
        for name, tenant, submit, duration, *_ in rows
        if int(duration)
    )


@given(_SWF)
def test_any_fields_of_the_standard_workload_format(place: Path, rows: list[list[str]]) -> None:
    read(place / "d.swf", "\n".join(" ".join(row) for row in rows).encode("utf-8", "surrogatepass"))
