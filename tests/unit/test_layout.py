"""The folder `queue/` must never hide the standard library's `queue` module."""

import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("queue", "admission", "cli", "migrations")


@pytest.mark.parametrize("root", SOURCE_ROOTS)
def test_source_root_holds_only_the_namespace(root: str) -> None:
    """A Python file beside `aiqueue/` would make the folder importable by its own name."""
    assert not list((ROOT / root).glob("*.py"))
    assert not (ROOT / root / "aiqueue" / "__init__.py").exists()
    assert (ROOT / root / "aiqueue" / root / "__init__.py").exists()


def test_stdlib_queue_wins_from_the_repository_root() -> None:
    """`python -m anything` puts the repository root first on sys.path."""
    code = "import queue, sysconfig; assert queue.__file__.startswith(sysconfig.get_path('stdlib')), queue.__file__"
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True)
