"""What can be known of the Containerfile where there is no engine to build it."""

from __future__ import annotations

import fnmatch
import importlib.metadata
import json
import re
import shlex
import subprocess
import sysconfig
import tomllib
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
FILE = ROOT / "Containerfile"
#: Of a stage, so not of this checkout.
OTHER_STAGE = "--from="
SECRET = re.compile(r"(?i)password|passwd|token|secret|api_?key|BEGIN [A-Z ]*PRIVATE KEY|://[^/\s]*@")


@dataclass(frozen=True, slots=True)
class Instruction:
    """One instruction, its continued lines joined."""

    name: str
    text: str


def instructions() -> list[Instruction]:
    lines = [line for line in FILE.read_text().splitlines() if line.strip() and not line.lstrip().startswith("#")]
    joined = "\n".join(lines).replace("\\\n", " ")
    return [Instruction(*line.split(maxsplit=1)) for line in joined.splitlines()]


def of(name: str) -> list[str]:
    found = [each.text for each in instructions() if each.name == name]
    assert found, f"no {name}"
    return found


def ignored(path: str) -> bool:
    """Whether .dockerignore keeps a file, or a folder it is in, out of the build."""
    patterns = [line for line in (ROOT / ".dockerignore").read_text().splitlines() if line and not line.startswith("#")]
    parts = path.split("/")
    for pattern in patterns:
        anywhere = pattern.startswith("**/")
        for end in range(1, len(parts) + 1):
            name = parts[end - 1] if anywhere else "/".join(parts[:end])
            if fnmatch.fnmatchcase(name, pattern.removeprefix("**/")):
                return True
    return False


def test_is_linted() -> None:
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([program, FILE], capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stdout) == (0, "")


def test_the_linter_does_judge(tmp_path: Path) -> None:
    weak = tmp_path / "Containerfile"
    weak.write_text("FROM python\nRUN cd /tmp && pip install something\n")
    program = Path(sysconfig.get_path("scripts")) / "hadolint"
    done = subprocess.run([program, weak], capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode != 0


def test_make_lint_runs_the_linter() -> None:
    assert "hadolint Containerfile" in (ROOT / "Makefile").read_text()


def test_it_says_that_no_test_builds_it() -> None:
    assert "no test builds it" in FILE.read_text()


def test_what_it_copies_is_there_and_is_not_ignored() -> None:
    for each in of("COPY"):
        *sources, _ = shlex.split(each)
        if sources[0].startswith(OTHER_STAGE):
            continue
        for source in sources:
            assert (ROOT / source).exists(), source
            assert source == "." or not ignored(source), source


def test_what_the_wheel_is_made_of_is_not_ignored() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)
    target = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    roots = (*target["packages"], *target["force-include"], "requirements", "pyproject.toml", "README.md", "LICENSE")
    listed = subprocess.run(["git", "ls-files", "--", *roots], cwd=ROOT, capture_output=True, text=True, check=False)
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    assert len(listed.stdout.splitlines()) > 50
    assert [name for name in listed.stdout.splitlines() if ignored(name)] == []


@pytest.mark.parametrize("name", [".git/config", "tests/unit/test_x.py", "a/b/tls.key", ".venv/bin/python", "kubeconfig"])
def test_what_is_somebodys_own_is_ignored(name: str) -> None:
    assert ignored(name)


def test_requirements_are_locked_files_of_this_checkout() -> None:
    named = re.findall(r"--require-hashes -r (\S+)", " ".join(of("RUN")))
    assert len(named) == 2
    for each in named:
        lock = ROOT / "requirements" / Path(each).name
        assert "--hash=sha256:" in lock.read_text()
    installs = [part for each in of("RUN") for part in each.split("&&") if "pip install" in part]
    for each in installs:
        assert "--require-hashes" in each or "--no-deps /tmp/wheel/" in each


def test_every_runtime_dependency_is_locked() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        wanted = tomllib.load(file)["project"]["dependencies"]
    locked = set(re.findall(r"^([a-z0-9-]+)==", (ROOT / "requirements" / "runtime.txt").read_text(), re.MULTILINE))
    assert {re.split(r"[\[<>=; ]", each)[0].lower() for each in wanted} - locked == set()


def test_the_entry_point_is_a_script_of_the_wheel() -> None:
    (entry,) = of("ENTRYPOINT")
    assert json.loads(entry) == ["aiqueue"]
    (script,) = importlib.metadata.entry_points(group="console_scripts", name="aiqueue")
    assert callable(script.load())


def test_it_runs_as_a_number_that_is_not_root() -> None:
    user, _, group = of("USER")[-1].partition(":")
    assert int(user) > 0
    assert int(group) > 0
    last = [each.name for each in instructions()].index("USER")
    assert [each.name for each in instructions()[last + 1 :]] == ["ENTRYPOINT"]


def test_the_manifests_run_it_as_the_same_user() -> None:
    user, _, group = of("USER")[-1].partition(":")
    for path in ("base/controller.yaml", "webhook/deployment.yaml"):
        text = (ROOT / "manifests" / path).read_text()
        assert f"runAsUser: {user}\n" in text
        assert f"runAsGroup: {group}\n" in text


def test_it_holds_no_secret_and_no_name_of_a_registry() -> None:
    text = FILE.read_text()
    assert SECRET.search(text) is None
    images = [each.split()[0] for each in of("FROM")]
    assert set(images) == {"python:3.13-slim"}
    assert "://" not in text
    assert not any(name in text for name in ("--index-url", "--extra-index-url", "--trusted-host"))
