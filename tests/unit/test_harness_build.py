"""How the build keeps its cache whole, with a script in the place of Go: the real build takes minutes."""

import subprocess
import sys
from pathlib import Path

import pytest

from aiqueue.cli.harness import build, processes
from aiqueue.cli.harness.build import Pins
from aiqueue.cli.harness.errors import ProgramFailed
from aiqueue.cli.harness.progress import PlainProgress
from aiqueue.cli.harness.waiting import until

GO = """#!/bin/sh
PATH=/usr/bin:/bin
here=$(dirname "$0")
case "$1" in
install)
    echo built >> "$here/builds"
    if [ -e "$here/broken" ]; then echo "cannot compile"; exit 2; fi
    # Like Go, it ends when nobody reads what it says.
    echo $$ > "$here/pid"
    while [ -e "$here/slow" ]; do echo "slow/package"; sleep 0.05; done
    for name in server kube-apiserver kube-controller-manager kube-scheduler kwok kubectl; do
        echo "some/package/$name"; echo "#!/bin/sh" > "$GOBIN/$name"; chmod +x "$GOBIN/$name"
    done;;
list) echo "$here/kwok";;
esac
"""


@pytest.fixture
def go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The folder of the script; nothing else is on PATH, and the cache is empty."""
    folder = tmp_path / "go"
    crd = folder / "kwok" / build.STAGE_CRD
    crd.parent.mkdir(parents=True)
    crd.write_text("kind: CustomResourceDefinition\n")
    program = folder / "go"
    program.write_text(GO)
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(folder))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.delenv("KUBEBUILDER_ASSETS", raising=False)
    return folder


def builds(go: Path) -> int:
    return len((go / "builds").read_text().splitlines())


def test_the_programs_are_built_once(go: Path) -> None:
    programs = build.provide(PlainProgress())
    assert all(programs.path(name).is_file() for name in build.PROGRAMS)
    assert programs.stage_crd is not None
    assert programs.stage_crd.read_text() == "kind: CustomResourceDefinition\n"
    assert build.provide(PlainProgress()) == programs
    assert builds(go) == 1
    assert "some/package/kwok" in build.cache_path(Pins.read()).with_suffix(".log").read_text()


def test_a_failed_build_shows_why_and_leaves_no_cache(go: Path) -> None:
    (go / "broken").touch()
    with pytest.raises(ProgramFailed, match=r"ended with status 2; the end of .*\ncannot compile"):
        build.provide(PlainProgress())
    assert not build.cache_path(Pins.read()).exists()
    (go / "broken").unlink()
    build.provide(PlainProgress())
    assert builds(go) == 2


BUILDER = "from aiqueue.cli.harness import build; build.provide()"


def start_builder() -> subprocess.Popen[bytes]:
    return subprocess.Popen([sys.executable, "-c", BUILDER], stderr=subprocess.PIPE)


def test_an_interrupted_build_is_begun_anew(go: Path) -> None:
    (go / "slow").touch()
    log = build.cache_path(Pins.read()).with_suffix(".log")
    with start_builder() as first:
        until(lambda: log.exists() and "slow/package" in log.read_text(), seconds=60, what="the beginning of a build")
        first.kill()
    left = list(log.parent.glob("*.building-*"))
    assert len(left) == 1
    compiler = int((go / "pid").read_text())
    until(lambda: processes.identify(compiler) is None, seconds=60, what="the end of the orphaned compiler")
    (go / "slow").unlink()
    build.provide(PlainProgress())
    assert list(log.parent.glob("*.building-*")) == []


def test_two_at_once_build_once(go: Path) -> None:
    (go / "slow").touch()
    log = build.cache_path(Pins.read()).with_suffix(".log")
    with start_builder() as first:
        until(lambda: log.exists() and "slow/package" in log.read_text(), seconds=60, what="the beginning of a build")
        with start_builder() as second:
            assert second.stderr is not None
            assert b"waiting for it" in second.stderr.readline()
            (go / "slow").unlink()
            assert first.stderr is not None
            assert b"built: " in first.stderr.read()
        assert second.returncode == 0
    assert first.returncode == 0
    assert builds(go) == 1
