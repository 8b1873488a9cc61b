"""`aiqueue demo` as a person runs it: what it tells, and that nothing is left when it ends, however it ends."""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

from aiqueue.cli.harness import processes, state
from aiqueue.cli.harness.waiting import until

ARGV = [sys.executable, "-W", "error", "-m", "aiqueue.cli.main", "demo"]
DEMO_SECONDS = 360


def environment_in(folder: Path) -> dict[str, str]:
    """Variables under which the demo keeps everything in a folder, and would fail if it looked at ours."""
    for name in ("state", "tmp"):
        (folder / name).mkdir(parents=True)
    return {
        **os.environ,
        "XDG_STATE_HOME": str(folder / "state"),
        "TMPDIR": str(folder / "tmp"),
        "KUBECONFIG": "/nonexistent/of/somebody",
        "AIQUEUE_DATABASE_URL": "postgresql://nobody@127.0.0.1:1/nothing",
    }


def left_over(environment: dict[str, str]) -> list[str]:
    """Folders of the demo that are still there, or still on the list of instances."""
    folders = [path.name for path in Path(environment["TMPDIR"]).glob("aiqueue-demo-*")]
    listed = (Path(environment["XDG_STATE_HOME"]) / "aiqueue" / "instances").glob("*.json")
    return folders + [json.loads(path.read_text())["folder"] for path in listed]


def test_the_story_is_told_and_nothing_is_left(tmp_path: Path) -> None:
    environment = environment_in(tmp_path)
    done = subprocess.run(ARGV, env=environment, capture_output=True, text=True, check=False, timeout=DEMO_SECONDS)
    assert done.returncode == 0, done.stdout + done.stderr
    told = " ".join(done.stdout.split())
    for fact in (
        "gpu-1 8 0 - gpu-2 8 0 - gpu-3 8 0 - gpu-4 8 0 -",
        "$ aiqueue apply -f tenants.yaml flavor/h100 created",
        "$ aiqueue explain workload default/pretrain",
        "It waits: WaitingForQuota needs 32 nvidia.com/gpu of flavor h100, tenant research has 16 of 32 free: short by 16",
        "default/finetune h100 nvidia.com/gpu 16",
        "reindex Complete 4/4",
        "Never suspended, no annotation, not in the ledger",
        "$ kubectl create -f typo.yaml # as alice Warning: Job default/typo: did you mean queue train? Error from server (Forbidden)",
        "there is no queue trian in namespace default",
        "needs 40 nvidia.com/gpu of flavor h100 and tenant research can never have more than 32: exceeds it by 8",
        "$ kubectl create -f typo.yaml # as alice, the webhook stopped job.batch/typo created",
        "It waits: QueueNotFound there is no queue trian in namespace default",
        "only aiqueue may set spec.suspend to false",
        "gpu-1 8 8 pretrain gpu-2 8 8 pretrain gpu-3 8 8 pretrain gpu-4 8 8 pretrain",
        "h100:nvidia.com/gpu=32/16",
        "others tenant product may take back what tenant research borrows, 16 nvidia.com/gpu of h100",
        "It waits: WaitingForVictims waits for one run to make room: default/pretrain until",
        "It claims nvidia.com/gpu=16 of h100 for 2 pods of main",
        "default/pretrain research nvidia.com/gpu=32 Noticed",
        (
            "makes room for default/evaluate of tenant product, which takes back its own nominal quota that tenant research borrows: "
            "its pods are stopped at"
        ),
        "Run 1 was put out (Preempted) for default/evaluate",
        "by right WithinNominal",
        "makes room for default/hotfix of tenant research: its priority is higher",
        "of work since its last checkpoint, as it saves every 1s",
        "default pretrain Pending train research normal 4 WaitingForQuota",
        "was as told",
    ):
        assert fact in told
    # The gang that is held: two nodes in use by the other one, two free.
    held = re.search(r"4\. A gang of 4 x 8 GPUs is held whole.*?NODE GPUS IN USE BY (.*?) No GPU of", told)
    assert held is not None
    assert sorted(re.findall(r"gpu-\d 8 (\d) (\S+)", held.group(1))) == [
        ("0", "-"),
        ("0", "-"),
        ("8", "finetune"),
        ("8", "finetune"),
    ]
    room_is_made_as_promised(told)
    assert left_over(environment) == []


def room_is_made_as_promised(told: str) -> None:
    """The borrower and all its pods are told one deadline, are stopped after it, and only then does the owner start."""
    noticed = re.findall(r"(job/pretrain started|pod/pretrain-\d-\w+ Running) (\S+)", told)
    assert len(noticed) == 5
    assert len({deadline for _, deadline in noticed}) == 1
    table = re.search(
        r"0\.00 s pretrain is told to end ledger (\S+) s its deadline ledger (\S+) s it is suspended audit log of the API server "
        r"(\S+) s its pods are gone, and its quota is free ledger (\S+) s evaluate is admitted ledger",
        told,
    )
    assert table is not None
    deadline, suspended, gone, admitted = map(float, table.groups())
    assert 9 < deadline <= suspended <= gone <= admitted
    # Of two that could make room for urgent work the one that saves its work did, and came back when that was over.
    lost = re.search(r"tune lost (\d+) s of work, as it saves it every second; distill would have lost (\d+) s", told)
    assert lost is not None
    assert int(lost.group(1)) <= 1 < int(lost.group(2))
    nodes = re.findall(r"gpu-\d 8 8 (\S+)", told.partition("14. Urgent work")[2].partition("$ aiqueue explain")[0])
    assert sorted(nodes) == ["distill", "evaluate", "evaluate", "hotfix"]


@contextmanager
def started(environment: dict[str, str]) -> Iterator[subprocess.Popen[str]]:
    """A demo that is about to begin."""
    with subprocess.Popen(ARGV, env=environment, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True) as demo:
        try:
            yield demo
        finally:
            demo.kill()


def test_interrupted_it_leaves_nothing(tmp_path: Path) -> None:
    """Two of them, which begin to tell at about the same time."""
    numbers = (signal.SIGINT, signal.SIGTERM)
    environments = [environment_in(tmp_path / number.name) for number in numbers]
    with ExitStack() as running:
        demos = [running.enter_context(started(each)) for each in environments]
        programs = []
        for demo, environment, number in zip(demos, environments, numbers, strict=True):
            assert demo.stdout is not None
            assert any(line.startswith("1. ") for line in demo.stdout), "it ended before it began"
            listed = (Path(environment["XDG_STATE_HOME"]) / "aiqueue" / "instances").glob("*.json")
            found = [each for path in listed for each in state.decode(json.loads(path.read_text())["state"]).programs]
            assert {"postgres", "kube-apiserver", "controller", "webhook"} <= {each.name for each in found}
            programs += found
            demo.send_signal(number)
        for demo, number in zip(demos, numbers, strict=True):
            assert demo.wait(timeout=90) not in (0, -number)
    until(lambda: not any(processes.is_alive(each.identity) for each in programs), seconds=10, what="the end of its programs")
    assert [left_over(each) for each in environments] == [[], []]
