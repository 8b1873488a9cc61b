"""The Standard Workload Format: what is read, what is left out, and what is said of lines that are wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from aiqueue.admission.simulate.traces import read_trace
from aiqueue.queue.documents import InvalidDocuments
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.records import PodSet

GPU = "nvidia.com/gpu"
HEAD = "; Computer: a machine\n;\n; MaxProcs: 1152\n"


def line(number: object = 1, **fields: object) -> str:
    """A job that ran 60 s from second 10 on, on 4 processors for which it asked, in queue 2."""
    given = {"submit": 10, "wait": 5, "run": 60, "got": 4, "asked": 4, "queue": 2, "partition": -1, **fields}
    known = {1: "submit", 2: "wait", 3: "run", 4: "got", 7: "asked", 14: "queue", 15: "partition"}
    cells = [str(given[known[place]]) if place in known else "-1" for place in range(1, 18)]
    return "  ".join([str(number), *cells])


def written(tmp_path: Path, *lines: str, name: str = "t.swf") -> Path:
    path = tmp_path / name
    data = (HEAD + "\n".join(lines) + "\n").encode()
    path.write_bytes(gzip.compress(data) if name.endswith(".gz") else data)
    return path


@pytest.mark.parametrize("name", ["t.swf", "t.swf.gz"])
def test_jobs_are_gangs_of_their_processors(tmp_path: Path, name: str) -> None:
    trace = read_trace(written(tmp_path, line(7, submit=20), "", line(8, submit=3.5, run=0.5, asked=64, got=32), name=name))
    assert [(job.name, job.tenant, job.arrival_us, job.runtime_us) for job in trace.jobs] == [
        ("8", "queue-2", 3_500_000, 500_000),
        ("7", "queue-2", 20_000_000, 60_000_000),
    ]
    assert [trace.shapes[job.shape] for job in trace.jobs] == [
        (PodSet("main", 64, {GPU: 1}),),
        (PodSet("main", 4, {GPU: 1}),),
    ]
    assert trace.notes == ()


def test_what_it_asked_for_else_what_it_got(tmp_path: Path) -> None:
    trace = read_trace(written(tmp_path, line(1, asked=-1, got=16), line(2, asked=8, got=-1)))
    assert [trace.shapes[job.shape][0].count for job in trace.jobs] == [16, 8]


def test_the_tenant_is_the_queue_else_the_partition(tmp_path: Path) -> None:
    lines = (line(1, queue=0, partition=3), line(2, queue=-1, partition=3), line(3, queue=-1))
    assert [job.tenant for job in read_trace(written(tmp_path, *lines)).jobs] == ["queue-0", "partition-3", "unknown"]


def test_jobs_that_cannot_be_replayed_are_left_out_counted_and_told(tmp_path: Path) -> None:
    lines = (line(1), line(2, run=0), line(3, run=-1), line(4, asked=-1, got=0), line(5, submit=-1))
    trace = read_trace(written(tmp_path, *lines))
    assert [job.name for job in trace.jobs] == ["1"]
    assert trace.notes == (
        "left out 1 of 5 jobs: they had no processors",
        "left out 2 of 5 jobs: they ran no time",
        "left out 1 of 5 jobs: when they were submitted is not known",
    )


def test_lines_that_are_wrong(tmp_path: Path) -> None:
    path = written(tmp_path, line(1), line(1), "1 2 3", line(4, run="long", asked="1.5"), line(5, submit="9" * 11, got=10**8))
    with pytest.raises(InvalidDocuments) as raised:
        read_trace(path)
    assert [str(each).replace(str(path), "FILE") for each in raised.value.errors] == [
        "FILE, line 5: job number is '1': give each job a number of its own: line 4 has the same",
        "FILE, line 6: the line is 3 fields: write 18 fields, -1 for what is not known",
        "FILE, line 7: run time is 'long': write a number, -1 for what is not known",
        "FILE, line 7: requested processors is '1.5': write a whole number, -1 for what is not known",
        "FILE, line 8: submit time is '99999999999': write seconds, at most 100 years",
        "FILE, line 8: allocated processors is '100000000': write at most 10000000",
    ]


def test_only_so_much_is_told(tmp_path: Path) -> None:
    with pytest.raises(InvalidInput) as raised:
        read_trace(written(tmp_path, *(["x"] * 1000)))
    assert len(str(raised.value).splitlines()) == 20
