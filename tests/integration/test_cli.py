"""The `aiqueue` command against a real ledger: what it prints, where, and with which exit code."""

import signal
import subprocess
import sys
from pathlib import Path

import pytest
import yaml

from aiqueue.queue.documents import read_documents
from aiqueue.queue.words import Reason, WorkloadState
from fix_command import OBJECTS, Command
from fix_rows import Rows

pytestmark = pytest.mark.integration

GPU = "nvidia.com/gpu"
DRAIN = "apiVersion: aiqueue.dev/v1\nkind: Tenant\nmetadata: {name: research}\nspec: {state: Drain}\n"


def test_apply_says_what_became_of_each_object(aiqueue: Command) -> None:
    first = aiqueue("apply", "-f", "-", given=OBJECTS)
    assert first.out.splitlines() == [
        "queue/team-a/train created",
        "tenant/research created",
        "class/normal created",
        "flavor/h100 created",
    ]
    assert first.err == ""
    again = aiqueue("apply", "-f", "-", given=OBJECTS.replace("priority: 100", "priority: 7"))
    assert again.out.splitlines()[2:] == ["class/normal configured", "flavor/h100 unchanged"]


def test_apply_warns_of_what_has_no_effect_and_goes_on(aiqueue: Command) -> None:
    written = OBJECTS.replace("spec: {priority: 100}", "spec: {priority: 100, preemptible: false, minRuntime: 5m}")
    said = "warning: stdin, document 3 (Class normal): spec.minRuntime is 5m: it protects from other workloads"
    for arguments in ([], ["--dry-run"]):
        result = aiqueue("apply", "-f", "-", *arguments, given=written)
        assert [line for line in result.err.splitlines() if line.startswith(said)] == result.err.splitlines()[:1]
        assert "class/normal" in result.out


def test_apply_reads_files_and_folders_in_one_transaction(aiqueue: Command, tmp_path: Path) -> None:
    queue, *others = OBJECTS.split("---")
    folder = tmp_path / "folder"
    folder.mkdir()
    (folder / "b.yml").write_text(others[0])
    (folder / "a.yaml").write_text("---".join(others[1:]))
    (folder / "notes.txt").write_text("not yaml: [")
    file = tmp_path / "queue.yaml"
    file.write_text(queue + "---\napiVersion: v1\nkind: Namespace\nmetadata: {name: team-a}\n")
    result = aiqueue("apply", "-f", str(file), "-f", str(folder), "-o", "name")
    assert result.out.splitlines() == ["queue/team-a/train", "class/normal", "flavor/h100", "tenant/research"]
    assert result.err == f"passed over: {file}, document 2 (Namespace team-a) is of v1, which is not aiqueue's\n"


def test_apply_tells_all_mistakes_and_changes_nothing(aiqueue: Command, tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_text(OBJECTS.replace("priority: 100", "priority: high"))
    (tmp_path / "b.yaml").write_text("apiVersion: aiqueue.dev/v1\nkind: Tenant\nmetadata: {name: Bad}\nspec: {wieght: 1}\n")
    result = aiqueue("apply", "-f", str(tmp_path), expect=1)
    assert result.out == ""
    assert [line.split(" is ")[0].rpartition(": ")[2] for line in result.err.splitlines()] == [
        "spec.priority",
        "metadata.name",
        "spec.wieght",
    ]
    assert "no tenants found" in aiqueue("get", "tenants").err


def test_apply_refuses_what_does_not_fit_with_places(aiqueue: Command) -> None:
    result = aiqueue("apply", "-f", "-", given=OBJECTS.replace("tenant: research", "tenant: reserch"), expect=1)
    assert result.err == (
        "error: stdin, document 1 (Queue train): spec.tenant is 'reserch': there is no such Tenant: did you mean research?\n"
    )


def test_the_same_object_in_two_files_is_refused(aiqueue: Command, tmp_path: Path) -> None:
    for name in ("a.yaml", "b.yaml"):
        (tmp_path / name).write_text(OBJECTS)
    result = aiqueue("apply", "-f", str(tmp_path), expect=1)
    assert result.err.count("write it once") == 4


def test_a_dry_run_shows_and_changes_nothing(aiqueue: Command) -> None:
    result = aiqueue("apply", "-f", "-", "--dry-run", given=OBJECTS)
    assert "tenant/research created (dry run)" in result.out
    assert result.err == "dry run: nothing was changed\n"
    assert aiqueue("get", "tenants", "-o", "json").json()["items"] == []


def test_draining_needs_its_option(applied: Command) -> None:
    assert "give --allow-drain if you mean it" in applied("apply", "-f", "-", given=DRAIN, expect=1).err
    assert applied("apply", "-f", "-", "--allow-drain", given=DRAIN).out == "tenant/research configured\n"


@pytest.mark.parametrize(
    ("path", "sentence"),
    [
        ("nowhere.yaml", "error: -f is '{}': it cannot be read (No such file or directory)"),
        ("empty", "error: -f is '{}': name a folder that holds *.yaml or *.yml files"),
        ("latin.yaml", "error: {}: byte 4 is 233: save the file as UTF-8"),
        ("other.yaml", "error: -f is '{}': name files that hold aiqueue.dev/v1 documents"),
    ],
)
def test_files_that_cannot_be_used(aiqueue: Command, tmp_path: Path, path: str, sentence: str) -> None:
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.yaml").write_bytes("a: \xe9".encode("latin-1"))
    (tmp_path / "other.yaml").write_text("apiVersion: v1\nkind: Pod\n")
    result = aiqueue("apply", "-f", str(tmp_path / path), expect=1)
    assert result.err.splitlines()[-1].startswith(sentence.format(tmp_path / path))


def test_the_audit_says_who(applied: Command) -> None:
    (line, *_) = applied("get", "audit", "--limit", "1").out.splitlines()[1:]
    assert "Created" in line
    assert "ana" in line


@pytest.mark.parametrize("kind", ["tenants", "queues", "classes", "flavors"])
def test_yaml_goes_back_through_apply_unchanged(applied: Command, kind: str) -> None:
    text_out = applied("get", kind, "-o", "yaml").out
    assert len(read_documents(text_out, kind)) == 1
    assert applied("apply", "-f", "-", given=text_out).out.endswith(" unchanged\n")


def test_json_of_a_list_goes_back_through_apply_unchanged(applied: Command) -> None:
    listed = applied("get", "tenants", "-o", "json")
    assert listed.json()["kind"] == "List"
    assert applied("apply", "-f", "-", given=listed.out).out == "tenant/research unchanged\n"
    assert applied("get", "tenant", "research", "-o", "json").json()["kind"] == "Tenant"


def test_every_kind_in_every_format(applied: Command, rows: Rows) -> None:
    workload = rows.workload("w", state=WorkloadState.ADMITTED)
    rows.run(workload, tenant="research", allocations=[("h100", GPU, 1)])
    rows.decision(Reason.WAITING_FOR_QUOTA, tenant="research", shape="s")
    rows.claim(workload, tenant="research", allocations=[("h100", GPU, 1)])
    for kind in ("workloads", "runs", "claims", "tenants", "queues", "classes", "flavors", "clusters", "decisions", "audit"):
        for output in ("table", "wide", "json", "yaml", "name"):
            result = applied("get", kind, "-o", output)
            assert result.out, (kind, output)
            assert result.err == "", (kind, output)
        names = applied("get", kind, "-o", "name").out.splitlines()
        assert len(applied("get", kind).out.splitlines()) == len(names) + 1
        items = applied("get", kind, "-o", "json").json()["items"]
        assert items == list(yaml.safe_load_all(applied("get", kind, "-o", "yaml").out))


def test_tables_in_a_pipe_are_plain_and_whole(applied: Command, rows: Rows) -> None:
    long = "a-very-long-name-that-no-terminal-of-eighty-columns-has-room-for"
    rows.workload(long, user_name="mallory\x1b[2J")
    heading, line = applied("get", "workloads", "-o", "wide").out.splitlines()
    assert heading.split() == (
        [
            "NAMESPACE",
            "NAME",
            "STATE",
            "QUEUE",
            "TENANT",
            "CLASS",
            "PODS",
            "READY",
            "REASON",
            "AGE",
            "WAITED",
            "ATTEMPT",
            "REQUESTS",
            "USER",
            "ENDS",
            "PREEMPTED-BY",
            "RULE",
            "MESSAGE",
        ]
    )
    assert long in line
    assert "\x1b" not in line
    assert line.index("Pending") == heading.index("STATE")
    assert "PendingEvaluation" in line


def test_filters_reach_the_ledger(applied: Command, rows: Rows) -> None:
    rows.workload("mine")
    rows.workload("theirs", namespace="team-b", queue="serve")
    rows.workload("over", state=WorkloadState.FAILED, ended=3)

    def listed(*arguments: str) -> list[str]:
        return [line.rpartition("/")[2] for line in applied("get", "wl", *arguments, "-o", "name").out.splitlines()]

    assert listed() == listed("-A") == ["mine", "theirs"]
    assert listed("-n", "team-a") == ["mine"]
    assert listed("--queue", "serve") == ["theirs"]
    assert listed("--tenant", "research") == ["mine"]
    assert listed("--state", "failed") == ["over"]
    assert listed("--all") == ["mine", "theirs", "over"]
    assert listed("over") == listed("team-a/over") == ["over"]
    limited = applied("get", "wl", "--limit", "1")
    assert len(limited.out.splitlines()) == 2
    assert limited.err == "only the first 1 are shown: raise --limit or ask for less\n"


@pytest.mark.parametrize(
    ("arguments", "code", "sentence"),
    [
        (["get", "tenants", "nope"], 4, "error: there is no tenant nope"),
        (["get", "workload", "nope", "-n", "team-a"], 4, "error: there is no workload team-a/nope"),
        (["get", "workloads", "-n", "nowhere"], 0, "no workloads found"),
        (["get", "tennants"], 2, "error: there is nothing called 'tennants': did you mean tenants?"),
        (["get", "tenants", "--state", "x"], 2, "error: --state does not apply to tenants: leave it out"),
        (["get", "workloads", "--state", "x"], 2, "error: --state x is not known: choose one of Pending"),
        (["get", "workloads", "-n", "a", "-A"], 2, "error: -n and -A contradict each other"),
        (["get", "workload", "a/b", "-n", "c"], 2, "error: a/b and -n c name different namespaces"),
        (["get", "workloads", "-w", "-o", "json"], 2, "error: --watch shows tables: leave out -o json"),
        (["delete"], 2, "error: say what to delete"),
        (["delete", "workload", "x"], 2, "error: a workload cannot be deleted here: class, flavor, queue, tenant can"),
        (["delete", "queue", "train"], 2, "error: say in which namespace queue train is: -n NAMESPACE"),
        (["delete", "tenant", "x", "-n", "y"], 2, "error: a tenant belongs to no namespace"),
        (["delete", "tenant", "nope"], 4, "error: there is no Tenant named nope"),
        (["delete", "tenant", "research"], 1, "error: Tenant research is still referred to by queue team-a/train"),
        (["explain", "workload", "team-a/nope"], 4, "error: the ledger holds no workload team-a/nope: see that the Job exists"),
    ],
)
def test_what_cannot_be_done_ends_with_a_sentence_and_a_code(
    applied: Command, arguments: list[str], code: int, sentence: str
) -> None:
    result = applied(*arguments, expect=code)
    assert result.out == ""
    assert result.err.startswith(sentence)


def test_wrong_options_are_usage(aiqueue: Command) -> None:
    aiqueue.process("get", expect=2)
    aiqueue("get", "tenants", "--nope", expect=2)
    aiqueue("nope", expect=2)


def test_delete_by_name_and_by_file(applied: Command) -> None:
    assert applied("delete", "queue", "team-a/train").out == "queue/team-a/train deleted\n"
    missing = applied("delete", "-f", "-", given=OBJECTS, expect=4)
    assert missing.err == "error: there is no Queue named team-a/train\n"
    rest = applied("delete", "-f", "-", "--ignore-not-found", given=OBJECTS)
    assert rest.out.splitlines() == ["tenant/research deleted", "class/normal deleted", "flavor/h100 deleted"]
    assert rest.err == "there is no Queue named team-a/train\n"


def test_delete_goes_from_the_leaves_up(aiqueue: Command) -> None:
    tenants = "".join(
        f"apiVersion: aiqueue.dev/v1\nkind: Tenant\nmetadata: {{name: {name}}}\nspec: {spec}\n---\n"
        for name, spec in (("a", "{}"), ("b", "{parent: a}"), ("c", "{parent: b}"))
    )
    aiqueue("apply", "-f", "-", given=tenants)
    assert aiqueue("delete", "-f", "-", "-o", "name", given=tenants).out.split() == ["tenant/c", "tenant/b", "tenant/a"]


def test_watch_shows_changes_until_it_is_interrupted(applied: Command, rows: Rows) -> None:
    rows.workload("first")
    with subprocess.Popen(
        applied.line(["get", "workloads", "--watch"]), stdout=subprocess.PIPE, text=True, env=applied.environment()
    ) as process:
        try:
            assert process.stdout is not None
            assert process.stdout.readline().startswith("NAMESPACE")
            assert "first" in process.stdout.readline()
            rows.workload("second")
            assert "second" in process.stdout.readline()  # the first has not changed, but for its age
            process.send_signal(signal.SIGINT)
            assert process.wait(timeout=60) == 0
        finally:
            process.kill()


def test_without_a_ledger() -> None:
    unset = Command("")("get", "tenants", expect=1)
    assert unset.err.startswith("error: AIQUEUE_DATABASE_URL is not set: export AIQUEUE_DATABASE_URL=postgresql://")
    away = Command("postgresql://someone:s3cret@127.0.0.1:1/nothing").process("get", "tenants", expect=3)
    assert "Connection refused" in away.err
    wrong = Command("mysql://someone:s3cret@host/nothing")("get", "tenants", expect=1)
    garbled = Command("postgresql://someone:s3cret@host:s3cret/nothing")("get", "tenants", expect=1)
    for result in (away, wrong, garbled):
        assert len(result.err.splitlines()) == 1
        assert "s3cret" not in result.err


def test_a_database_without_a_ledger(empty_database_url: str) -> None:
    command = Command(empty_database_url)
    assert "see `aiqueue db check`" in command("get", "tenants", expect=3).err
    assert command("db", "check", expect=3).err == "error: the database holds no ledger yet: run `aiqueue db upgrade`\n"
    assert command("db", "upgrade").out.startswith("empty -> ")
    assert command("db", "upgrade").out.endswith(": nothing to do\n")
    assert command("db", "check").out.strip().isalnum()


def test_help_is_fast_because_it_imports_little() -> None:
    code = (
        "import sys, aiqueue.cli.main, typer.main;"
        "typer.main.get_command(aiqueue.cli.main.app);"
        "print(*sorted({name.partition('.')[0] for name in sys.modules}))"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"sqlalchemy", "psycopg", "kubernetes", "alembic", "pydantic", "cryptography", "structlog"} & set(loaded)


def test_help_tells_the_exit_codes(aiqueue: Command) -> None:
    assert "Exit codes: 0 done; 1 refused" in aiqueue("--help").out
    assert aiqueue.process("version", expect=0).out.strip()
