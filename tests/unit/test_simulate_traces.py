"""Job tables: what is read, and what is said of those that are wrong."""

from __future__ import annotations

import gzip
from pathlib import Path

import pytest

from aiqueue.admission.simulate.tracefile import MAX_ERRORS, MAX_LINE_CHARACTERS
from aiqueue.admission.simulate.traces import read_trace
from aiqueue.queue.documents import InvalidDocuments
from aiqueue.queue.errors import InvalidInput
from aiqueue.queue.records import PodSet
from fix_traces import COLUMNS, write_table

GPU = "nvidia.com/gpu"


def refused(path: Path) -> list[str]:
    with pytest.raises(InvalidInput) as raised:
        read_trace(path)
    errors = raised.value.errors if isinstance(raised.value, InvalidDocuments) else (raised.value,)
    return [str(each).replace(str(path), "FILE") for each in errors]


def table(tmp_path: Path, *rows: tuple[object, ...], columns: tuple[str, ...] = COLUMNS) -> Path:
    return write_table(tmp_path / "t.csv", rows, columns)


@pytest.mark.parametrize("name", ["t.csv", "t.csv.gz", "T.CSV"])
def test_a_table_packed_or_not(tmp_path: Path, name: str) -> None:
    path = write_table(tmp_path / name, [("a", "vision", 10, 60, 2, 8), ("b", "speech", 0.25, 1.5, 1, 1)])
    trace = read_trace(path)
    assert [(job.name, job.tenant, job.arrival_us, job.runtime_us) for job in trace.jobs] == [
        ("b", "speech", 250_000, 1_500_000),
        ("a", "vision", 10_000_000, 60_000_000),
    ]
    assert [trace.shapes[job.shape] for job in trace.jobs] == [
        (PodSet("main", 1, {GPU: 1}),),
        (PodSet("main", 2, {GPU: 8}),),
    ]
    assert trace.tenants == ("speech", "vision")
    assert trace.notes == ()


def test_columns_stand_in_any_order_and_others_are_passed_over(tmp_path: Path) -> None:
    columns = ("colour", "gpus_per_pod", "pods", "duration_s", "submit_s", "tenant", "job_id", "gpu_model", "cpus_per_pod")
    trace = read_trace(table(tmp_path, ("red", 0, 3, 5, 7, "t", "a", "V100", 1.5), columns=columns))
    assert trace.shapes == ((PodSet("main", 3, {"cpu": 1500}),),)
    assert (trace.jobs[0].arrival_us, trace.jobs[0].runtime_us) == (7_000_000, 5_000_000)


def test_what_optional_columns_leave_empty_is_not_asked_for(tmp_path: Path) -> None:
    path = table(tmp_path, ("a", "t", 0, 1, 1, 1, ""), columns=(*COLUMNS, "cpus_per_pod"))
    assert read_trace(path).shapes == ((PodSet("main", 1, {GPU: 1}),),)


def test_jobs_of_one_time_keep_their_order(tmp_path: Path) -> None:
    rows = [(name, "t", submit, 1, 1, 1) for name, submit in (("c", 5), ("a", 5), ("z", 1), ("b", 5))]
    assert [job.name for job in read_trace(table(tmp_path, *rows)).jobs] == ["z", "c", "a", "b"]


def test_jobs_that_ask_for_the_same_share_it(tmp_path: Path) -> None:
    trace = read_trace(table(tmp_path, *((f"j{number}", "t", 0, 1, 1 + number % 3, 8) for number in range(30))))
    assert len(trace.shapes) == 3


def test_a_part_of_a_device_takes_all_of_it_and_is_told(tmp_path: Path) -> None:
    trace = read_trace(table(tmp_path, ("a", "t", 0, 1, 1, 0.5), ("b", "t", 0, 1, 1, "1.0"), ("c", "t", 0, 1, 2, 0.5)))
    assert [trace.shapes[job.shape][0].requests for job in trace.jobs] == [{GPU: 1}, {GPU: 1}, {GPU: 1}]
    assert trace.notes == ("2 jobs ask for part of a device in each pod, which takes the whole of it",)


def test_jobs_that_ran_no_time_are_left_out_and_told(tmp_path: Path) -> None:
    trace = read_trace(table(tmp_path, ("a", "t", 0, 0, 1, 1), ("b", "t", 0, 1, 1, 1)))
    assert [job.name for job in trace.jobs] == ["b"]
    assert trace.notes == ("left out 1 of 2 jobs, which ran no time",)


def test_blank_lines_a_byte_order_mark_and_quotes(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b'\xef\xbb\xbf"job_id",tenant,submit_s,duration_s,pods,gpus_per_pod\r\n\r\n"a, b",t,0,1,1,1\r\n')
    assert [job.name for job in read_trace(path).jobs] == ["a, b"]


def test_every_wrong_cell_is_told_with_its_line_column_value_and_fix(tmp_path: Path) -> None:
    wrong = refused(
        table(
            tmp_path,
            ("a", "t", 0, 1, 1, 1),
            ("a", "t", 0, 1, 1, 1),
            ("", "", "soon", "-2", 0, "one"),
            ("b", "t", "1e3", "9" * 12, "2.5", -1),
            ("c", "t", 0, 1),
            ("e\x1b[31m", "t", 0, 1, 1, "٣"),
        )
    )
    assert wrong[0] == "FILE, line 3: job_id is 'a': give each job a name of its own: line 2 has the same"
    assert {each.partition(" is ")[0] for each in wrong if ", line 4:" in each} == {
        f"FILE, line 4: {column}" for column in COLUMNS
    }
    assert "FILE, line 4: pods is '0': write a whole number from 1 to 1000000" in wrong
    assert "FILE, line 4: gpus_per_pod is 'one': write a number such as 8 or 0.5, below 10^9" in wrong
    seconds = "write seconds of zero or more, such as 10082 or 0.5, at most 100 years"
    assert f"FILE, line 4: submit_s is 'soon': {seconds}" in wrong
    assert f"FILE, line 5: duration_s is '{'9' * 12}': {seconds}" in wrong
    assert "FILE, line 6: the line is 4 cells: write 6 cells, as in the header" in wrong
    assert [each.partition(" is ")[0] for each in wrong[-2:]] == ["FILE, line 7: gpus_per_pod", "FILE, line 7: job_id"]


def test_only_so_much_is_told(tmp_path: Path) -> None:
    wrong = refused(table(tmp_path, *((f"j{number}", "t", "x", 1, 1, 1) for number in range(500))))
    assert len(wrong) == MAX_ERRORS


@pytest.mark.parametrize(
    ("columns", "said"),
    [
        (("job_id", "tenant"), "FILE, line 1: submit_s is missing: the header must name " + ", ".join(COLUMNS)),
        ((*COLUMNS, "pods"), "FILE, line 1: pods is given twice: keep one column of that name"),
    ],
)
def test_headers_that_do_not_say_what_is_where(tmp_path: Path, columns: tuple[str, ...], said: str) -> None:
    assert said in refused(table(tmp_path, columns=columns))


def test_a_file_without_a_header(tmp_path: Path) -> None:
    path = tmp_path / "t.csv"
    path.write_bytes(b"")
    assert refused(path) == [
        f"FILE, line 1: the header is missing: begin with a line that names the columns: {','.join(COLUMNS)}"
    ]


def test_a_quote_that_is_not_closed(tmp_path: Path) -> None:
    (said,) = refused(table(tmp_path, ('"a', "t", 0, 1, 1, 1), ("b", "t", 0, 1, 1, 1)))
    assert said.startswith("FILE, line 3: the line is no csv: put quotes round whole cells only, and close them")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    header = ",".join(COLUMNS).encode() + b"\n"
    rows = "".join(f"job-{number},t,{number},1,1,1\n" for number in range(1000)).encode()
    for name, data, said in (
        ("t.txt", header, "--trace is 'FILE': name a file that ends in .csv, .csv.gz, .swf or .swf.gz"),
        ("t.csv", header + b"a,t\xff,0,1,1,1\n", "the text is not UTF-8: save the file as UTF-8"),
        ("t.csv.gz", gzip.compress(header + rows)[:-20], "the file is damaged: it cannot be unpacked"),
        ("u.csv", header + b"x" * (MAX_LINE_CHARACTERS + 1), "FILE, line 2: the line is too long: write one job a line"),
    ):
        (tmp_path / name).write_bytes(data)
        (found,) = refused(tmp_path / name)
        assert said in found
    (found,) = refused(tmp_path / "none.csv")
    assert found == "--trace is 'FILE': it cannot be read (No such file or directory): name a file"
    (tmp_path / "folder.csv").mkdir()
    assert "it cannot be read" in refused(tmp_path / "folder.csv")[0]
