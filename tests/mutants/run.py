"""Put each fault of `faults.py` into a copy of the engine and see whether the engine's tests notice: `make mutants`.

    python tests/mutants/run.py [NAME...]      only the faults whose names begin so

Nothing is changed in the working tree: every fault has a copy of its own, made anew. A copy without a fault is tried first, since
tests that fail anyhow kill everything. The examples run first, then the properties, and the first test that fails ends it.
The exit code is 1 if a fault survives, or cannot be put in.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from faults import FAULTS, ROOT, Fault, FragmentNotFound, with_fault

AT_ONCE = 2
TEST_SECONDS = 60  # a test that takes longer hangs, which is one way to fail
PASS_SECONDS = 600
SOURCES = ("admission", "cli", "migrations", "queue")
#: What the engine's tests import; the rest of the fixtures need a database or a cluster.
FIXTURES = ("fix_builders.py", "fix_rules.py", "fix_engine_*.py")
#: Those that fail fastest first: one look at the whole costs less than to guess for each fault.
EXAMPLES = ("unit/test_engine_rules_*.py", "unit/test_engine_*.py")
PROPERTIES = ("property/test_engine_tree.py", "property/test_engine_*.py")
PLUGINS = ("pytest_timeout", "_hypothesis_pytestplugin")
#: Fixture of the copies, loaded before the others: a property that fails need not be made small first.
NO_SHRINKING = """
from hypothesis import Phase, settings

settings.register_profile("mutants", deadline=None, phases=[Phase.explicit, Phase.generate], report_multiple_bugs=False, database=None)
settings.load_profile("mutants")
"""
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Result:
    """What became of one copy: the test that failed first, None if none did; `broken` says why the tests could not run."""

    killer: str | None
    seconds: float
    broken: str | None = None


def copy_tree(to: Path) -> None:
    """Copy the sources and the engine's tests."""
    unwanted = shutil.ignore_patterns("__pycache__", "*.pyc")
    for name in SOURCES:
        shutil.copytree(ROOT / name, to / name, ignore=unwanted)
    shutil.copy(ROOT / "pyproject.toml", to)
    (to / "tests").mkdir()
    for pattern in ("conftest.py", *FIXTURES, *EXAMPLES, *PROPERTIES):
        for path in (ROOT / "tests").glob(pattern):
            copy = to / "tests" / path.relative_to(ROOT / "tests")
            copy.parent.mkdir(exist_ok=True)
            shutil.copy(path, copy)
    (to / "tests" / "fix_a_profile.py").write_text(NO_SHRINKING)


def try_out(fault: Fault | None, folder: Path) -> Result:
    """Run the tests on a copy in `folder`, with the fault in it if there is one.

    Raises:
        FragmentNotFound: the fault cannot be put in.
    """
    copy_tree(folder)
    if fault is not None:
        faulty = folder / fault.file
        faulty.write_text(with_fault(fault, faulty.read_text()))
    started = time.monotonic()
    for patterns in (EXAMPLES, PROPERTIES):
        done = run_tests(folder, _paths(folder / "tests", patterns))
        failed = _FAILED.search(done.stdout)
        if done.returncode:
            killer = failed[1] if failed else None
            broken = None if failed else (done.stdout + done.stderr)[-2000:]
            return Result(killer, time.monotonic() - started, broken)
    return Result(None, time.monotonic() - started)


def _paths(tests: Path, patterns: Iterable[str]) -> list[str]:
    found: dict[str, None] = {}
    for pattern in patterns:
        for path in sorted(tests.glob(pattern)):
            found[f"tests/{path.relative_to(tests)}"] = None
    return list(found)


def run_tests(folder: Path, paths: Sequence[str]) -> subprocess.CompletedProcess[str]:
    """Run tests of a copy until one fails; the copy's own sources are what they import."""
    command = [sys.executable, "-m", "pytest", "-x", "-q", "--tb=no", "-o", f"timeout={TEST_SECONDS}"]
    command += [each for name in ("no:cacheprovider", *PLUGINS) for each in ("-p", name)]
    environment = {
        **os.environ,
        "PYTHONPATH": os.pathsep.join(str(folder / name) for name in SOURCES),
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1",  # a start is most of what a fault costs
    }
    return subprocess.run(
        [*command, "--hypothesis-seed=0", *paths],
        cwd=folder,
        env=environment,
        capture_output=True,
        text=True,
        timeout=PASS_SECONDS,
        check=False,
    )


def is_from(folder: Path) -> bool:
    """Whether what tests of this copy import is the copy."""
    question = "import aiqueue.admission.engine as e, aiqueue.queue.usage as u; print(e.__file__, u.__file__, sep='\\n')"
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(str(folder / name) for name in SOURCES)}
    answer = subprocess.run(
        [sys.executable, "-c", question], cwd=folder, env=environment, capture_output=True, text=True, check=True
    )
    return all(Path(line).is_relative_to(folder) for line in answer.stdout.split())


def main(prefixes: Sequence[str]) -> int:
    """Try all faults, or those whose names begin with a prefix; returns the exit code."""
    chosen = [fault for fault in FAULTS if not prefixes or fault.name.startswith(tuple(prefixes))]
    if not chosen:
        print(f"no fault begins with {' or '.join(prefixes)}", file=sys.stderr)
        return 1
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="aiqueue-mutants-") as scratch:
        folder = Path(scratch).resolve()
        sound = try_out(None, folder / "sound")
        if not is_from(folder / "sound"):
            print("the copies are not what their tests import: nothing was tried", file=sys.stderr)
            return 1
        if sound.killer or sound.broken:
            print(f"without any fault the tests fail already: {sound.killer or sound.broken}", file=sys.stderr)
            return 1
        print(
            f"without a fault everything passes ({sound.seconds:.0f} s); now {len(chosen)} faults, {AT_ONCE} at a time",
            flush=True,
        )
        survived, broken = _try_all(chosen, folder)
    seconds = time.monotonic() - started
    killed = len(chosen) - len(survived) - len(broken)
    tail = "".join(f"; {what}: {', '.join(names)}" for what, names in (("survived", survived), ("not tried", broken)) if names)
    print(f"mutants: {len(chosen)} faults, {killed} killed, {len(survived)} survived in {seconds:.0f} s{tail}")
    return 1 if survived or broken else 0


def _try_all(chosen: Sequence[Fault], folder: Path) -> tuple[list[str], list[str]]:
    """Names of the faults that survived, and of those that could not be tried."""
    survived: list[str] = []
    broken: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {pool.submit(_alone, fault, folder / fault.name): fault for fault in chosen}
        for count, future in enumerate(as_completed(futures), 1):
            fault, line = futures[future], f"{count:2}/{len(chosen)}"
            try:
                result = future.result()
            except (FragmentNotFound, subprocess.TimeoutExpired) as error:
                broken.append(fault.name)
                print(f"{line} NOT TRIED {fault.name}: {error}", flush=True)
                continue
            if result.killer is not None:
                print(f"{line} killed    {fault.name} by {result.killer} in {result.seconds:.0f} s", flush=True)
            elif result.broken is not None:
                broken.append(fault.name)
                print(f"{line} NOT TRIED {fault.name}: the tests do not run: {result.broken}", flush=True)
            else:
                survived.append(fault.name)
                print(f"{line} SURVIVED  {fault.name} in {result.seconds:.0f} s. It breaks: {fault.breaks}", flush=True)
    return survived, broken


def _alone(fault: Fault, folder: Path) -> Result:
    """Try one fault and leave nothing behind."""
    try:
        return try_out(fault, folder)
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
