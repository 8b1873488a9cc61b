"""docs/policies.md names policies and tests that exist, and leaves no policy out."""

from __future__ import annotations

import ast
import re
from pathlib import Path

import pytest
import yaml

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "policies.md"
TESTS = ROOT / "tests" / "e2e"
MANIFESTS = ROOT / "manifests"
_ROW = re.compile(r"\| (?P<clause>[^|]+) \| (?P<policy>[^|]+) \| `(?P<test>[^`|]+)` \|")
#: Whatever is enforced by somebody else than one policy.
OTHERS = {"all", "the API server", "the controller"}


def rows() -> list[dict[str, str]]:
    """The rows of all tables."""
    lines = [line for line in PAGE.read_text().splitlines() if line.startswith("| ") and not line.startswith("| clause")]
    found = [_ROW.fullmatch(line) for line in lines]
    assert all(found), [line for line, row in zip(lines, found, strict=True) if row is None]
    return [row.groupdict() for row in found if row is not None]


def functions(test: str) -> set[str]:
    """Names of the functions of the file, or of its class, that this test id is in."""
    file, *inside, _ = test.split("::")
    body: list[ast.stmt] = ast.parse((TESTS / file).read_text()).body
    for name in inside:
        (found,) = (each for each in body if isinstance(each, ast.ClassDef) and each.name == name)
        body = found.body
    return {each.name for each in body if isinstance(each, ast.FunctionDef)}


@pytest.mark.parametrize("row", rows(), ids=lambda row: row["test"])
def test_every_clause_has_a_test(row: dict[str, str]) -> None:
    assert row["test"].rpartition("::")[2] in functions(row["test"])


def test_policies_are_those_of_the_manifests() -> None:
    files = [*(MANIFESTS / "policies").glob("*.yaml"), *(MANIFESTS / "components" / "kueue-labels").glob("*.yaml")]
    documents = [each for file in files for each in yaml.safe_load_all(file.read_text())]
    policies = {each["metadata"]["name"] for each in documents if each["kind"].endswith("AdmissionPolicy")}
    assert {row["policy"] for row in rows()} - OTHERS == policies
