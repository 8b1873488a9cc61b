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
DEMO_SECONDS = 240


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
    assert left_over(environment) == []


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
