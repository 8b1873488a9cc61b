"""Rules about the repository's own files, so that they are kept by more than good will."""

from __future__ import annotations

import ast
import re
import subprocess
from collections import defaultdict
from collections.abc import Iterator
from functools import cache
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
SOURCE_ROOTS = ("queue", "admission", "cli", "migrations")
MOST_LINES = 400
MOST_TEST_LINES = 500
MOST_FUNCTION_LINES = 70
#: A revision is written once and never cut up.
LONG_BY_NATURE = ("migrations/aiqueue/migrations/versions/",)
#: Two functions of this many lines that say the same are one function too many.
DUPLICATE_LINES = 8

# In pieces, so that this file does not contain what it looks for.
REGISTRIES = tuple(
    ".".join(parts)
    for parts in (
        ("pypi", "org"),
        ("pythonhosted", "org"),
        ("proxy", "golang", "org"),
        ("sum", "golang", "org"),
        ("npmjs", "org"),
        ("crates", "io"),
        ("docker", "io"),
        ("registry", "k8s", "io"),
    )
)
HOMES = tuple("/" + name for name in ("work", "root", "home"))
MACHINE_PATH = re.compile(r"(?<![\w.})\]])(?:" + "|".join(HOMES) + r")(?![\w-])")


@cache
def tracked() -> tuple[Path, ...]:
    """Files that are committed or about to be."""
    listed = subprocess.run(
        ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    if listed.returncode != 0:
        pytest.skip("not a git checkout")
    return tuple(path for name in listed.stdout.split("\0") if name and (path := ROOT / name).is_file())


def relative(path: Path) -> str:
    return path.relative_to(ROOT).as_posix()


def modules(*folders: str) -> list[Path]:
    return [
        path for path in tracked() if path.suffix == ".py" and relative(path).startswith(tuple(f"{each}/" for each in folders))
    ]


def functions(path: Path) -> Iterator[ast.FunctionDef]:
    yield from (each for each in ast.walk(ast.parse(path.read_text())) if isinstance(each, ast.FunctionDef))


def test_no_file_names_a_registry_or_a_place_on_somebodys_machine() -> None:
    found = []
    for path in tracked():
        try:
            text = path.read_text()
        except UnicodeDecodeError:
            continue
        for number, line in enumerate(text.splitlines(), 1):
            named = [host for host in REGISTRIES if host in line] + MACHINE_PATH.findall(line)
            found += [f"{relative(path)}:{number}: {each}" for each in named]
    assert found == []


@pytest.mark.parametrize("line", ["see /" + "root/x", "'/" + "work'", "PATH=/" + "home/me/bin", "in /" + "work/main."])
def test_machine_paths_are_recognised(line: str) -> None:
    assert MACHINE_PATH.search(line)


@pytest.mark.parametrize("line", ["/workloads", "a/root/b", "{home}/work", "$HOME/work", "/homepage"])
def test_other_paths_are_not(line: str) -> None:
    assert not MACHINE_PATH.search(line)


def test_modules_and_functions_are_short() -> None:
    found = []
    for path in modules(*SOURCE_ROOTS, "tests"):
        if relative(path).startswith(LONG_BY_NATURE):
            continue
        lines = len(path.read_text().splitlines())
        if lines > (MOST_TEST_LINES if relative(path).startswith("tests/") else MOST_LINES):
            found.append(f"{relative(path)}: {lines} lines")
        if not relative(path).startswith("tests/"):
            found += [
                f"{relative(path)}: {each.name} has {length} lines"
                for each in functions(path)
                if (length := (each.end_lineno or 0) - each.lineno + 1) > MOST_FUNCTION_LINES
            ]
    assert found == []


def test_every_package_says_what_it_is() -> None:
    silent = [
        relative(path)
        for path in modules(*SOURCE_ROOTS)
        if path.name == "__init__.py" and not ast.get_docstring(ast.parse(path.read_text()))
    ]
    assert silent == []


def test_every_source_root_is_typed() -> None:
    assert [root for root in SOURCE_ROOTS if not (ROOT / root / "aiqueue" / root / "py.typed").is_file()] == []


def test_tests_wait_for_conditions_and_never_for_time() -> None:
    """Benchmarks send when it is time, and a proxy is slow on purpose, which is another matter."""
    sleeps = [
        f"{relative(path)}:{call.lineno}"
        for path in modules("tests")
        if ROOT / "tests" / "bench" not in path.parents and path.name != "fix_proxy.py"
        for call in ast.walk(ast.parse(path.read_text()))
        if isinstance(call, ast.Call) and ast.unparse(call.func) in ("time.sleep", "sleep", "asyncio.sleep")
    ]
    assert sleeps == []


def test_a_fixture_has_one_home() -> None:
    """All `fix_*.py` are loaded everywhere, so of two fixtures of one name one would silently take the other's place."""
    homes: dict[str, list[str]] = defaultdict(list)
    for path in modules("tests"):
        if path.name.startswith("fix_"):
            for each in functions(path):
                if any(ast.unparse(decorator).startswith("pytest.fixture") for decorator in each.decorator_list):
                    homes[each.name].append(path.name)
    assert homes
    assert {name: places for name, places in homes.items() if len(places) > 1} == {}


def test_no_two_functions_are_the_same() -> None:
    """Compared as parsed, so that comments, docstrings, layout and the name do not tell them apart."""
    same: dict[str, list[str]] = defaultdict(list)
    for path in modules(*SOURCE_ROOTS):
        for each in functions(path):
            body = each.body[1:] if ast.get_docstring(each) is not None else each.body
            if body and (body[-1].end_lineno or 0) - body[0].lineno + 1 >= DUPLICATE_LINES:
                said = ast.dump(ast.Module(body=body, type_ignores=[]))
                same[said].append(f"{relative(path)}:{each.lineno} {each.name}")
    assert [places for places in same.values() if len(places) > 1] == []


def test_yaml_files_can_be_read() -> None:
    for path in tracked():
        if path.suffix in (".yaml", ".yml"):
            assert [each for each in yaml.safe_load_all(path.read_text()) if each is not None], relative(path)


def test_kustomizations_name_files_that_are_there() -> None:
    found = [path for path in tracked() if path.name == "kustomization.yaml"]
    assert found
    for path in found:
        for resource in yaml.safe_load(path.read_text()).get("resources", []):
            place = path.parent / resource
            assert place.is_file() or (place / "kustomization.yaml").is_file(), f"{relative(path)}: {resource}"


def test_links_between_documents_lead_somewhere() -> None:
    broken = []
    for path in tracked():
        if path.suffix != ".md":
            continue
        for target in re.findall(r"\]\(([^)\s]+)\)|src=\"([^\"]+)\"", path.read_text()):
            link = next(each for each in target if each).partition("#")[0]
            if link and "://" not in link and not (path.parent / link).exists():
                broken.append(f"{relative(path)}: {link}")
    assert broken == []
