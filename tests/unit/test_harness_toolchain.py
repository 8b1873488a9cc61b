"""Which Go is taken, where there are several."""

import importlib
from pathlib import Path

import pytest

from aiqueue.cli.harness import toolchain
from aiqueue.cli.harness.errors import ToolMissing


def go_on_path(folder: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> Path:
    """Put a Go of this version, and nothing else, on PATH."""
    program = folder / "bin" / "go"
    program.parent.mkdir()
    program.write_text(f"#!/bin/sh\necho go version {version} linux/amd64\n")
    program.chmod(0o755)
    monkeypatch.setenv("PATH", str(program.parent))
    monkeypatch.setattr("sys.path", [str(folder)])
    return program


def wheel(folder: Path) -> Path:
    """Lay out a toolchain as the wheel does."""
    program = folder / "go" / "bin" / "go"
    program.parent.mkdir(parents=True)
    program.touch(mode=0o755)
    (folder / "go" / "__init__.py").touch()
    return program


@pytest.mark.parametrize("version", ["go1.24.0", "go1.27.3", "go1.30", "devel +abc"])
def test_a_go_on_path_is_taken_before_the_wheel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    wheel(tmp_path)
    program = go_on_path(tmp_path, monkeypatch, version)
    assert toolchain.find().program == program


@pytest.mark.parametrize("version", ["go1.23.9", "go1.19", "go1.4.2"])
def test_an_old_one_is_passed_over(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, version: str) -> None:
    go_on_path(tmp_path, monkeypatch, version)
    with pytest.raises(ToolMissing, match=r"at least 1\.24"):
        toolchain.find()
    installed = wheel(tmp_path)
    importlib.invalidate_caches()
    assert toolchain.find().program == installed


def test_the_launcher_of_the_wheel_is_not_taken_for_another_go(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    go_on_path(tmp_path, monkeypatch, "go1.27.3")
    monkeypatch.setattr("sys.prefix", str(tmp_path))
    installed = wheel(tmp_path)
    assert toolchain.find().program == installed
