"""What a person may get wrong on the command line is named, with what to write instead; nothing is connected to."""

from __future__ import annotations

from pathlib import Path

import pytest

from aiqueue.admission.kube.client import KubeClient
from aiqueue.admission.kube.errors import UnusableCredentials
from fix_command import Command

URL = "postgresql://nobody:hidden@127.0.0.1:1/none"


@pytest.mark.parametrize("url", ["http://somewhere/ledger", "nonsense", "postgresql://nobody:hidden@127.0.0.1:x/none"])
def test_a_url_that_names_no_ledger_is_refused_by_its_variable(url: str) -> None:
    said = Command(url)("get", "tenants", expect=1).err
    assert said.startswith("error: AIQUEUE_DATABASE_URL is ")
    assert said.endswith(": write postgresql://user@host:port/database\n")
    assert "hidden" not in said


def test_a_name_of_three_parts_is_none() -> None:
    assert Command(URL)("explain", "workload", "a/b/c", expect=2).err == (
        "error: 'a/b/c' has more than one /: write NAME or NAMESPACE/NAME\n"
    )


def test_the_version_is_asked_for_as_people_do() -> None:
    assert Command(URL)("--version").out == Command(URL)("version").out != ""


def test_the_hint_is_of_the_environment_that_was_asked_for(tmp_path: Path) -> None:
    folder = tmp_path / "not there"
    said = Command(URL)("dev", "env", "--folder", str(folder), expect=1).err
    assert said == f"error: nothing runs: start it with `aiqueue dev up --folder '{folder}'`\n"


@pytest.mark.parametrize("content", ["a-host-name\n", "[]\n", "contexts: 3\n"])
def test_what_is_no_kubeconfig_is_called_so(tmp_path: Path, content: str) -> None:
    path = tmp_path / "config"
    path.write_text(content)
    with pytest.raises(
        UnusableCredentials, match=r"cannot be used: .*; check that the file exists and that kubectl can use it"
    ) as told:
        KubeClient.from_kubeconfig(path)
    assert "object" not in str(told.value), "it is a sentence of Python's own"
