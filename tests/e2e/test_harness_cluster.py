"""The Kubernetes half of the harness, on real programs."""

import json
import os
import secrets
import signal
import ssl
import subprocess
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aiqueue.cli.dev import app
from aiqueue.cli.harness import guard, marks, processes, state
from aiqueue.cli.harness.api import Api
from aiqueue.cli.harness.certificates import Authority
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError, NotMarked, ProgramFailed
from aiqueue.cli.harness.waiting import until

pytestmark = pytest.mark.e2e

#: A place of this run's own: the cluster may be one that other runs have used.
MARK = f"harness-{secrets.token_hex(3)}"
JOBS = f"/apis/batch/v1/namespaces/{MARK}/jobs"
PODS = f"/api/v1/namespaces/{MARK}/pods"
MERGE = "application/merge-patch+json"


@pytest.fixture
def own_state_folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Keep the clusters of a test from the sweeps of others."""
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))


def test_the_guard_tells_marked_from_unmarked(cluster: DevCluster) -> None:
    guard.require_marked_cluster(cluster.kubeconfig)
    stranger = cluster.user_kubeconfig("stranger", ["nobodies"])
    with pytest.raises(NotMarked, match="403 Forbidden"):
        guard.require_marked_cluster(stranger)


@pytest.mark.usefixtures("own_state_folder")
def test_a_bare_cluster_stores_jobs_and_needs_its_mark(tmp_path: Path) -> None:
    with DevCluster.create(tmp_path / "bare", bare=True) as bare:
        assert [each.name for each in bare.running()] == ["etcd", "kube-apiserver"]
        first = [each.identity for each in bare.running()]
        assert [each.identity for each in bare.start().running()] == first, "a second start disturbs nothing"
        bare.api.call("POST", "/apis/batch/v1/namespaces/default/jobs", job("stored", {}, namespace="default"))
        guard.require_marked_cluster(bare.kubeconfig)
        bare.api.call("DELETE", marks.CONFIG_MAP_PATH)
        with pytest.raises(NotMarked, match="404 Not Found"):
            guard.require_marked_cluster(bare.kubeconfig)
        address = bare.server
    assert not any(processes.is_alive(each) for each in first)
    with pytest.raises(NotMarked):
        guard.require_marked_cluster(bare.kubeconfig)
    with DevCluster.create(tmp_path / "bare", bare=True) as again:
        assert again.server == address
        assert again.api.call("GET", "/apis/batch/v1/namespaces/default/jobs/stored")["metadata"]["name"] == "stored"


STARTER = """
import sys
from pathlib import Path
from aiqueue.cli.harness.cluster import DevCluster
DevCluster.create(Path(sys.argv[1]), bare=True).start()
print("started", flush=True)
sys.stdin.read()
"""


@pytest.mark.usefixtures("own_state_folder")
def test_the_cluster_of_a_killed_run_is_ended(tmp_path: Path) -> None:
    folder = tmp_path / "left"
    with subprocess.Popen(
        [sys.executable, "-c", STARTER, str(folder)], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as starter:
        assert starter.stdout is not None
        assert starter.stdout.readline() == b"started\n"
        left = state.load(folder).programs
        with pytest.raises(HarnessError, match="in use by process"):
            DevCluster.create(folder, bare=True).start()
        starter.send_signal(signal.SIGKILL)
    assert len(left) == 2
    assert all(processes.is_alive(each.identity) for each in left)
    with DevCluster.create(folder, bare=True) as heir:
        assert not any(processes.is_alive(each.identity) for each in left)
        assert heir.is_running()


@pytest.mark.usefixtures("own_state_folder")
def test_a_program_that_fails_shows_its_log_and_leaves_nothing(tmp_path: Path) -> None:
    folder = tmp_path / "broken"
    folder.mkdir()
    (folder / "etcd").write_text("a file where etcd wants a folder")
    cluster = DevCluster.create(folder, bare=True)
    with pytest.raises(ProgramFailed, match=r"etcd ended; the end of .*etcd\.log:\n(.*\n)*.*not a directory"):
        cluster.start()
    assert cluster.running() == []
    assert state.instances() == []


def test_another_authority_is_neither_trusted_nor_believed(cluster: DevCluster, tmp_path: Path) -> None:
    port = int(cluster.server.rpartition(":")[2])
    other = Authority.open(tmp_path / "other", "another CA")
    impostor = other.client("admin", "aiqueue-dev:admin", ("system:masters",))
    with pytest.raises(ssl.SSLCertVerificationError):
        Api(port, other.file, impostor).ask("GET", "/version")
    assert Api(port, cluster.ca_file, impostor).ask("GET", "/api/v1/nodes").status == 401


def test_a_user_may_what_rbac_says(cluster: DevCluster) -> None:
    ann = cluster.user_kubeconfig("ann", ["readers"])
    assert "ann" in cluster.kubectl("auth", "whoami", kubeconfig_file=ann)
    with pytest.raises(HarnessError, match='User "ann" cannot list resource "pods"'):
        cluster.kubectl("get", "pods", kubeconfig_file=ann)


def test_a_service_account_has_a_token(cluster: DevCluster) -> None:
    mine = cluster.service_account_kubeconfig("default", "default")
    assert "system:serviceaccount:default:default" in cluster.kubectl("auth", "whoami", kubeconfig_file=mine)
    with pytest.raises(HarnessError, match='"absent" not found'):
        cluster.service_account_kubeconfig("default", "absent")


def test_kubectl_knows_no_kubeconfig_but_the_cluster_s(cluster: DevCluster, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("KUBECONFIG", "/nonexistent/of/somebody")
    assert cluster.server in cluster.kubectl("cluster-info")
    applied = cluster.kubectl("apply", "-f", "-", stdin=json.dumps(config_map("from-stdin")))
    assert "from-stdin" in applied


def config_map(name: str) -> dict[str, Any]:
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "namespace": "default"}}


def job(name: str, notes: dict[str, str], namespace: str = MARK, **spec: object) -> dict[str, Any]:
    pod = {"restartPolicy": "Never", "nodeSelector": {"test": MARK}, "containers": [{"name": "main", "image": "none"}]}
    annotations = {f"aiqueue.dev/dev-{key}": value for key, value in notes.items()}
    return {
        "apiVersion": "batch/v1",
        "kind": "Job",
        "metadata": {"name": name, "namespace": namespace},
        "spec": {"backoffLimit": 0, **spec, "template": {"metadata": {"annotations": annotations}, "spec": pod}},
    }


@pytest.fixture(scope="module")
def node(cluster: DevCluster) -> Iterator[str]:
    """A namespace and a node for the pods of this module only."""
    cluster.api.call("POST", "/api/v1/namespaces", {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": MARK}})
    account = f"/api/v1/namespaces/{MARK}/serviceaccounts/default"
    until(lambda: cluster.api.is_ok(account), seconds=60, what="the service account of a new namespace")
    cluster.add_node(MARK, 64_000, 2**36, gpus=8, labels={"test": MARK})
    yield MARK
    cluster.api.call("DELETE", f"/api/v1/namespaces/{MARK}")
    cluster.api.call("DELETE", f"/api/v1/nodes/{MARK}")


def run(cluster: DevCluster, content: dict[str, Any]) -> str:
    cluster.api.call("POST", JOBS, content)
    return str(content["metadata"]["name"])


def status(cluster: DevCluster, name: str) -> dict[str, Any]:
    return dict(cluster.api.call("GET", f"{JOBS}/{name}").get("status", {}))


def conditions(cluster: DevCluster, name: str) -> set[str]:
    return {each["type"] for each in status(cluster, name).get("conditions", []) if each["status"] == "True"}


def pods(cluster: DevCluster, name: str) -> list[dict[str, Any]]:
    return list(cluster.api.call("GET", f"{PODS}?labelSelector=job-name%3D{name}")["items"])


def annotate(cluster: DevCluster, name: str, key: str, value: str | None) -> None:
    for pod in pods(cluster, name):
        path = f"{PODS}/{pod['metadata']['name']}"
        cluster.api.call("PATCH", path, {"metadata": {"annotations": {f"aiqueue.dev/dev-{key}": value}}}, content_type=MERGE)


def suspend(cluster: DevCluster, name: str) -> None:
    cluster.api.call("PATCH", f"{JOBS}/{name}", {"spec": {"suspend": True}}, content_type=MERGE)


def await_ready(cluster: DevCluster, name: str, count: int = 1) -> None:
    until(lambda: status(cluster, name).get("ready") == count, seconds=60, what=f"{count} ready pods of {name}")


def await_condition(cluster: DevCluster, name: str, wanted: str) -> None:
    until(lambda: wanted in conditions(cluster, name), seconds=60, what=f"condition {wanted} of {name}")


def ran_seconds(pod: dict[str, Any]) -> float:
    """How long the container ran; the server keeps whole seconds."""
    from datetime import datetime

    ended = pod["status"]["containerStatuses"][0]["state"]["terminated"]
    return (datetime.fromisoformat(ended["finishedAt"]) - datetime.fromisoformat(ended["startedAt"])).total_seconds()


@pytest.mark.usefixtures("node")
def test_a_pod_runs_as_long_as_it_is_told(cluster: DevCluster) -> None:
    name = run(cluster, job("told", {"runtime": "3s"}))

    def ends_at() -> str | None:
        told = [each for pod in pods(cluster, name) for each in pod["status"].get("conditions", ())]
        return next((each["message"] for each in told if each["type"] == "aiqueue.dev/EndsAt"), None)

    before = until(ends_at, seconds=60, what="the pod to know when it ends")
    # An edit while it runs must not make it run longer.
    annotate(cluster, name, "unrelated", "edit")
    await_condition(cluster, name, "Complete")
    (pod,) = pods(cluster, name)
    assert pod["status"]["phase"] == "Succeeded"
    assert ends_at() == before
    assert 2 <= ran_seconds(pod) <= 30


@pytest.mark.usefixtures("node")
def test_a_pod_that_is_told_nothing_ends_soon(cluster: DevCluster) -> None:
    name = run(cluster, job("untold", {}, parallelism=3, completions=3))
    await_condition(cluster, name, "Complete")
    assert [ran_seconds(pod) <= 30 for pod in pods(cluster, name)] == [True] * 3


@pytest.mark.usefixtures("node")
def test_a_pod_ends_when_it_is_told(cluster: DevCluster) -> None:
    name = run(cluster, job("open", {"runtime": "forever"}))
    await_ready(cluster, name)
    annotate(cluster, name, "end", "now")
    await_condition(cluster, name, "Complete")


@pytest.mark.usefixtures("node")
def test_one_pod_of_an_indexed_job_fails(cluster: DevCluster) -> None:
    notes = {"runtime": "100ms", "exit-code": "7", "only-index": "1"}
    name = run(cluster, job("one-fails", notes, completionMode="Indexed", parallelism=3, completions=3))
    await_condition(cluster, name, "Failed")
    found = {
        pod["metadata"]["annotations"]["batch.kubernetes.io/job-completion-index"]: pod["status"]["containerStatuses"][0][
            "state"
        ]["terminated"]["exitCode"]
        for pod in pods(cluster, name)
    }
    assert found == {"0": 0, "1": 7, "2": 0}


@pytest.mark.usefixtures("node")
def test_a_pod_is_not_ready_until_it_may_be(cluster: DevCluster) -> None:
    notes = {"runtime": "forever", "ready": "never", "only-index": "0"}
    name = run(cluster, job("late", notes, completionMode="Indexed", parallelism=2, completions=2))
    until(lambda: all(pod["status"]["phase"] == "Running" for pod in pods(cluster, name)), seconds=60, what="both running")
    await_ready(cluster, name, 1)
    annotate(cluster, name, "ready", None)
    await_ready(cluster, name, 2)


@pytest.mark.usefixtures("node")
def test_a_suspended_pod_takes_its_time(cluster: DevCluster) -> None:
    stubborn = run(cluster, job("stubborn", {"runtime": "forever", "termination": "1h"}))
    willing = run(cluster, job("willing", {"runtime": "forever"}))
    for name in (stubborn, willing):
        await_ready(cluster, name)
        suspend(cluster, name)
    until(lambda: not pods(cluster, willing), seconds=60, what="the end of the willing pod")
    (pod,) = pods(cluster, stubborn)
    assert pod["status"]["phase"] == "Running"
    until(lambda: status(cluster, stubborn).get("terminating") == 1, seconds=60, what="the Job's notice that it goes")
    annotate(cluster, stubborn, "end", "now")
    until(lambda: not pods(cluster, stubborn), seconds=60, what="the end of the stubborn pod")
    until(lambda: not status(cluster, stubborn).get("terminating"), seconds=60, what="the Job's notice of it")


@pytest.mark.usefixtures("node")
def test_the_audit_log_says_who_did_what(cluster: DevCluster) -> None:
    name = run(cluster, job("audited", {}, suspend=True))
    cluster.api.call("PATCH", f"{JOBS}/{name}", {"spec": {"parallelism": 2}}, content_type=MERGE)

    def entry() -> dict[str, Any] | None:
        for line in cluster.audit_log.read_text().splitlines(keepends=True):
            if line.endswith("\n"):
                found: dict[str, Any] = json.loads(line)
                if found["verb"] == "patch" and found["requestURI"].startswith(f"{JOBS}/{name}") and "requestObject" in found:
                    return found
        return None

    found = until(entry, seconds=60, what="the audit entry")
    assert found["user"]["username"] == "aiqueue-dev:admin"
    assert found["responseStatus"]["code"] == 200
    assert found["requestObject"] == {"spec": {"parallelism": 2}}


@dataclass(frozen=True, slots=True)
class Done:
    """A command that ended."""

    code: int
    stdout: str
    stderr: str


def _surroundings(home: Path) -> dict[str, str]:
    return {"XDG_STATE_HOME": str(home / "state"), "KUBECONFIG": "/nonexistent/of/somebody"}


def dev(*arguments: str, home: Path) -> Done:
    """Run `aiqueue dev` as a program of its own, so that what it starts really outlives it."""
    argv = [sys.executable, "-c", "from aiqueue.cli.dev import app; app()", *arguments, "--folder", str(home / "dev")]
    environment = {**os.environ, **_surroundings(home)}
    done = subprocess.run(argv, env=environment, capture_output=True, text=True, check=False, timeout=300)
    assert done.returncode == 0, done.stderr
    return Done(done.returncode, done.stdout, done.stderr)


def asked(*arguments: str, home: Path, expect: int = 0) -> Done:
    """Run it in this process: what starts nothing."""
    found = CliRunner().invoke(app, [*arguments, "--folder", str(home / "dev")], env=_surroundings(home))
    assert found.exit_code == expect, found.output
    return Done(found.exit_code, found.stdout, found.stderr)


def test_dev_up_twice_status_logs_and_down(tmp_path: Path) -> None:
    asked("status", home=tmp_path, expect=3)
    assert "nothing runs" in asked("env", home=tmp_path, expect=1).stderr
    try:
        first = dev("up", home=tmp_path)
        assert "running: https://127.0.0.1:" in first.stderr
        found = json.loads(asked("status", "-o", "json", home=tmp_path).stdout)["programs"]
        parts = {"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kwok", "postgres"}
        assert parts <= {each["name"] for each in found}
        assert all(each["running"] for each in found)
        second = dev("up", home=tmp_path)
        assert "already running" in second.stderr
        assert second.stdout == first.stdout == asked("env", home=tmp_path).stdout
        assert json.loads(asked("status", "-o", "json", home=tmp_path).stdout)["programs"] == found
        exported = dict(line.removeprefix("export ").split("=", 1) for line in first.stdout.splitlines())
        guard.require_marked_cluster(Path(exported["KUBECONFIG"]))
        assert exported["AIQUEUE_KUBECONFIG"] == exported["KUBECONFIG"]  # for `aiqueue doctor`
        guard.require_marked_database(exported["AIQUEUE_DATABASE_URL"])
        assert DevCluster.of_kubeconfig(Path(exported["KUBECONFIG"])).server in first.stderr
        assert "database system is ready" in asked("logs", "postgres", home=tmp_path).stdout
        assert "no program 'absent'" in asked("logs", "absent", home=tmp_path, expect=1).stderr
        identities = [processes.identify(each["pid"]) for each in found]
        dev("down", home=tmp_path)
        assert None not in identities
        assert not any(processes.is_alive(each) for each in identities if each is not None)
        assert (tmp_path / "dev" / "cluster" / "etcd").exists(), "data is kept"
    finally:
        dev("down", "--purge", home=tmp_path)
    assert not (tmp_path / "dev" / "cluster").exists()
