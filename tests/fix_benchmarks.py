"""Benchmarks as programs, for the tests that see to it that they still run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

FOLDER = Path(__file__).parent / "bench"


def run_benchmark(name: str, *options: str) -> subprocess.CompletedProcess[str]:
    """Run tests/bench/NAME.py to its end."""
    return subprocess.run(
        [sys.executable, str(FOLDER / f"{name}.py"), *options],
        capture_output=True,
        text=True,
        check=False,
        timeout=600,
        stdin=subprocess.DEVNULL,
    )
