"""The wheel as it ships: built from this tree, installed into an environment of its own, run away from the repository."""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import tomllib
import venv
from pathlib import Path

import pytest

from aiqueue.migrations import head_revision

ROOT = Path(__file__).parents[2]
COMMAND_SECONDS = 120
SHIPPED = ("manifests", "examples")


def run(*argv: str | Path, folder: Path, check: bool = True, **environment: str) -> subprocess.CompletedProcess[str]:
    """Run a program with these variables and hardly any other."""
    done = subprocess.run(
        argv,
        cwd=folder,
        env={"PATH": "/usr/bin:/bin", "HOME": str(folder), **environment},
        capture_output=True,
        text=True,
        check=False,
        timeout=COMMAND_SECONDS,
    )
    assert not check or done.returncode == 0, done.stdout + done.stderr
    return done


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel."""
    folder = tmp_path_factory.mktemp("dist")
    run(sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", folder, folder=ROOT)
    (found,) = folder.glob("aiqueue-*.whl")
    return found


@pytest.fixture(scope="module")
def installation(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The folder with the programs of an environment that has the wheel and the libraries, not the checkout."""
    home = tmp_path_factory.mktemp("installed") / "venv"
    venv.create(home, symlinks=True)
    python = home / "bin" / "python"
    pip = (sys.executable, "-m", "pip", "--python", python, "install", "--quiet", "--no-deps", "--no-index", wheel)
    run(*pip, folder=home)
    # A folder that a .pth names is not searched for further .pth files, so the editable install is not seen.
    libraries = {sysconfig.get_path("purelib"), sysconfig.get_path("platlib")}
    (site,) = (home / "lib").glob("python*/site-packages")
    (site / "libraries.pth").write_text("".join(f"{each}\n" for each in sorted(libraries)))
    return home / "bin"


def test_it_runs_from_where_it_was_installed(installation: Path, tmp_path: Path) -> None:
    code = (
        "import aiqueue.cli, aiqueue.queue, aiqueue.admission, aiqueue.migrations as m; print(aiqueue.cli.__file__, m.__file__)"
    )
    printed = run(installation / "python", "-c", code, folder=tmp_path).stdout
    assert all(each.startswith(str(installation.parent)) for each in printed.split())
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    assert run(installation / "aiqueue", "version", folder=tmp_path).stdout == f"{version}\n"


def test_manifests_and_examples_are_inside(installation: Path, tmp_path: Path) -> None:
    code = "from aiqueue.cli import resources as r; print(r.manifests_path(), r.examples_path())"
    shipped = [Path(each) for each in run(installation / "python", "-c", code, folder=tmp_path).stdout.split()]
    for name, folder in zip(SHIPPED, shipped, strict=True):
        assert folder.is_relative_to(installation.parent)
        inside = {path.relative_to(folder): path.read_bytes() for path in folder.rglob("*") if path.is_file()}
        assert inside == {
            path.relative_to(ROOT / name): path.read_bytes() for path in (ROOT / name).rglob("*") if path.is_file()
        }
        assert inside


def test_it_migrates_and_checks_a_ledger(installation: Path, empty_database_url: str, tmp_path: Path) -> None:
    def db(verb: str, *, check: bool = True) -> subprocess.CompletedProcess[str]:
        ledger = {"AIQUEUE_DATABASE_URL": empty_database_url}
        return run(installation / "aiqueue", "db", verb, folder=tmp_path, check=check, **ledger)

    assert db("check", check=False).returncode == 3
    assert f"empty -> {head_revision()}" in db("upgrade").stdout
    assert head_revision() in db("check").stdout
    assert "nothing to do" in db("upgrade").stdout


def test_the_runtime_lock_has_what_the_wheel_asks_for(wheel: Path) -> None:
    """Whoever installs with the lock and --no-deps must lack nothing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    asked = {each.partition(">")[0].partition("[")[0].lower() for each in project["dependencies"]}
    locked = {
        line.partition("==")[0] for line in (ROOT / "requirements" / "runtime.txt").read_text().splitlines() if "==" in line
    }
    assert asked <= locked
    assert wheel.name == f"aiqueue-{project['version']}-py3-none-any.whl"
