"""Put each fault of `faults.py` into a copy of the engine and see whether the engine's tests notice: `make mutants`.

    python tests/mutants/run.py [NAME...]      only the faults whose names begin so

Nothing is changed in the working tree: every fault has a copy of its own, made anew. A copy without a fault is tried first, since
tests that fail anyhow kill everything. The examples go first, which take seconds; then the properties, for what they did not
notice. The first test that fails ends a fault. The exit code is 1 if a fault survives, or cannot be put in.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path

from faults import FAULTS, ROOT, Fault, FragmentNotFound, with_fault

AT_ONCE = 2
TEST_SECONDS = 120  # a test that takes longer hangs, which is one way to fail
PASS_SECONDS = 900
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


def try_out(fault: Fault | None, patterns: Sequence[str], folder: Path) -> Result:
    """Run tests on a copy in `folder`, with the fault in it if there is one.

    Raises:
        FragmentNotFound: the fault cannot be put in.
    """
    copy_tree(folder)
    if fault is not None:
        faulty = folder / fault.file
        faulty.write_text(with_fault(fault, faulty.read_text()))
    started = time.monotonic()
    done = run_tests(folder, _paths(folder / "tests", patterns))
    seconds = time.monotonic() - started
    if not done.returncode:
        return Result(None, seconds)
    failed = _FAILED.search(done.stdout)
    if failed is not None:
        return Result(failed[1], seconds)
    return Result(None, seconds, broken=(done.stdout + done.stderr)[-2000:])


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
    left, broken = chosen, list[str]()
    with tempfile.TemporaryDirectory(prefix="aiqueue-mutants-") as scratch:
        for what, patterns in (("examples", EXAMPLES), ("properties", PROPERTIES)):
            if not left:
                break
            folder = Path(scratch).resolve() / what
            if (trouble := _sound(what, patterns, folder / "sound")) is not None:
                waiting = ", ".join(fault.name for fault in left)
                print(f"{trouble}; not noticed so far: {waiting}", file=sys.stderr)
                return 1
            print(f"{what}: {len(left)} faults, {AT_ONCE} at a time", flush=True)
            left, untried = _try_all(left, patterns, folder)
            broken += untried
    for fault in left:
        print(
            f"SURVIVED {fault.name}: {fault.instead!r} instead of {fault.fragment!r} in {fault.file}. It breaks: {fault.breaks}"
        )
    killed = len(chosen) - len(left) - len(broken)
    names = f": {', '.join(fault.name for fault in left)}" if left else ""
    tail = f", {len(broken)} not tried: {', '.join(broken)}" if broken else ""
    seconds = time.monotonic() - started
    print(f"mutants: {len(chosen)} faults, {killed} killed, {len(left)} survived in {seconds:.0f} s{names}{tail}")
    return 1 if left or broken else 0


def _sound(what: str, patterns: Sequence[str], folder: Path) -> str | None:
    """Why nothing can be told from these tests: they fail without any fault, or test something else; None if all is well."""
    result = _alone(None, patterns, folder, check=is_from)
    if result.broken or result.killer:
        return f"without any fault the {what} fail already: {result.killer or result.broken}"
    print(f"{what}: all pass without a fault, in {result.seconds:.0f} s", flush=True)
    return None


def _try_all(faults: Sequence[Fault], patterns: Sequence[str], folder: Path) -> tuple[list[Fault], list[str]]:
    """The faults that survive these tests, and the names of those that could not be tried."""
    survived: list[Fault] = []
    broken: list[str] = []
    with ThreadPoolExecutor(AT_ONCE) as pool:
        futures = {pool.submit(_alone, fault, patterns, folder / fault.name): fault for fault in faults}
        for count, future in enumerate(as_completed(futures), 1):
            fault, line = futures[future], f"{count:2}/{len(faults)}"
            result = future.result()
            if result.broken is not None:
                broken.append(fault.name)
                print(f"{line} NOT TRIED {fault.name}: {result.broken}", flush=True)
            elif result.killer is not None:
                print(f"{line} killed {fault.name} in {result.seconds:.0f} s by {result.killer}", flush=True)
            else:
                survived.append(fault)
                print(f"{line} not noticed {fault.name} in {result.seconds:.0f} s", flush=True)
    return sorted(survived, key=lambda fault: fault.name), broken


def _alone(
    fault: Fault | None, patterns: Sequence[str], folder: Path, *, check: Callable[[Path], bool] = lambda _: True
) -> Result:
    """Try one fault and leave nothing behind; `check` says whether the copy is what its tests test."""
    try:
        result = try_out(fault, patterns, folder)
        return result if check(folder) else Result(None, result.seconds, broken="the copy is not what its tests import")
    except (FragmentNotFound, subprocess.TimeoutExpired) as error:
        return Result(None, 0, broken=str(error))
    finally:
        shutil.rmtree(folder, ignore_errors=True)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
