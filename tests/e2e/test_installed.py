"""aiqueue in an environment of the harness: what `aiqueue dev up` leaves running, and finds again."""

from __future__ import annotations

import json
import os
import shlex
import signal
import ssl
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from typer.testing import CliRunner

from aiqueue.admission.certificates import x509
from aiqueue.admission.doctor.term import own_term
from aiqueue.cli import dev
from aiqueue.cli.harness import installed, processes, services
from aiqueue.cli.harness.environment import DevEnvironment
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.state import Record
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.store import leadership

pytestmark = pytest.mark.e2e

JOBS = "/apis/batch/v1/namespaces/default/jobs"
WRONG: dict[str, Any] = {
    "apiVersion": "batch/v1",
    "kind": "Job",
    "metadata": {"name": "wrong", "labels": {"aiqueue.dev/queue": "nowhere"}},
    "spec": {"template": {"spec": {"restartPolicy": "Never", "containers": [{"name": "main", "image": "none"}]}}},
}


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[DevEnvironment]:
    """An environment with aiqueue on it, in which each test finds both processes running."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("aiqueue.cli.harness.environment.after_up", [installed.bring_up])
        made = DevEnvironment(tmp_path_factory.mktemp("installed") / "dev", throwaway=True)
        try:
            assert made.up() is False
            yield made
        finally:
            made.down(purge=True)


def service(environment: DevEnvironment, name: str) -> Record:
    found = environment.find_service(name)
    assert found is not None, f"{name} does not run"
    return found


def kept(environment: DevEnvironment) -> dict[str, Any]:
    content = json.loads((environment.services_folder / installed.FILE).read_text())
    assert isinstance(content, dict)
    return content


def refusal(environment: DevEnvironment) -> str:
    """What the API server says to a Job that names no queue there is; empty if it takes it. Nothing is stored."""
    answer = environment.cluster.api.ask("POST", f"{JOBS}?dryRun=All", WRONG)
    return str(answer.json()["message"]) if answer.status >= 300 else ""


def kill(record: Record) -> None:
    os.kill(record.identity.pid, signal.SIGKILL)
    until(lambda: not processes.is_alive(record.identity), seconds=60, what=f"the end of the {record.name}")


def test_both_run_and_the_webhook_is_asked(environment: DevEnvironment) -> None:
    assert "there is no queue nowhere in namespace default" in refusal(environment)
    options = ["--folder", str(environment.folder)]
    shown = CliRunner().invoke(dev.app, ["status", *options])
    assert shown.exit_code == 0
    states = {line.split()[0]: line.split()[1] for line in shown.stdout.splitlines()[1:]}
    assert states["controller"] == states["webhook"] == "running"
    for name in ("controller", "webhook"):
        logs = CliRunner().invoke(dev.app, ["logs", name, *options])
        assert logs.exit_code == 0
        assert logs.stdout == environment.log(name).read_text() != ""


def test_a_shell_can_administer_and_repair(environment: DevEnvironment) -> None:
    said = CliRunner().invoke(dev.app, ["env", "--folder", str(environment.folder)])
    variables = dict(word.split("=", 1) for line in said.stdout.splitlines() for word in shlex.split(line)[1:])
    assert variables["AIQUEUE_DATABASE_URL"] == installed.admin_url(environment)
    with own_term(variables["AIQUEUE_REPAIR_DATABASE_URL"]) as term, term.transaction() as connection:
        leadership.fence(connection, term.number)
    until(lambda: '"event": "leading no more"' in environment.log("controller").read_text(), seconds=60, what="its term to end")
    until(lambda: not services.readiness(kept(environment)["health_port"]), seconds=60, what="the controller to lead again")


def test_nothing_that_holds_a_password_or_a_key_is_for_others(environment: DevEnvironment) -> None:
    certificates = environment.services_folder / installed.CERTIFICATES
    for path in (environment.services_folder / installed.FILE, certificates / "ca.key", certificates / "tls.key"):
        assert path.stat().st_mode & 0o077 == 0, path.name


def test_a_second_time_all_is_found_done(environment: DevEnvironment) -> None:
    before = kept(environment), service(environment, "controller"), service(environment, "webhook")
    assert environment.up() is True
    assert (kept(environment), service(environment, "controller"), service(environment, "webhook")) == before


def test_what_died_is_started_again_where_it_was_and_asked_again(environment: DevEnvironment) -> None:
    webhook, controller, before = service(environment, "webhook"), service(environment, "controller"), kept(environment)
    kill(webhook)
    assert refusal(environment) == "", "a webhook that is down is in nobody's way"
    environment.up()
    assert "there is no queue nowhere" in refusal(environment)
    assert service(environment, "webhook") != webhook
    assert service(environment, "controller") == controller
    assert kept(environment) == before


def test_one_is_stopped_for_a_while_and_ready_again_after_it(environment: DevEnvironment) -> None:
    with installed.stopped(environment, installed.WEBHOOK):
        assert environment.find_service("webhook") is None
        assert refusal(environment) == ""
    assert "there is no queue nowhere" in refusal(environment)


def test_what_an_older_aiqueue_kept_is_completed(environment: DevEnvironment) -> None:
    environment.stop_service("webhook")
    controller, before = service(environment, "controller"), kept(environment)
    older = {name: before[name] for name in ("admin_url", "controller_url", "health_port")}
    (environment.services_folder / installed.FILE).write_text(json.dumps(older))
    assert installed.admin_url(environment) == before["admin_url"]
    environment.up()
    assert {name: kept(environment)[name] for name in older} == older, "what shells were told stays true"
    assert service(environment, "controller") == controller
    assert "there is no queue nowhere" in refusal(environment)


@pytest.mark.parametrize("content", ["", "[]", "{}", '{"admin_url": 1, "controller_url": 2}', '{"admin_url": "?", "x": 0}'])
def test_damaged_notes_are_named(environment: DevEnvironment, content: str) -> None:
    path = environment.services_folder / installed.FILE
    whole = path.read_text()
    path.write_text(content)
    try:
        with pytest.raises(HarnessError, match=r"cannot be used \(\w+\): start the environment with `aiqueue dev up`"):
            installed.admin_url(environment)
    finally:
        path.write_text(whole)


def test_a_certificate_whose_time_is_over_is_made_anew(environment: DevEnvironment) -> None:
    folder, webhook = environment.services_folder / installed.CERTIFICATES, service(environment, "webhook")
    write_expired(folder)
    environment.up()
    assert service(environment, "webhook") == webhook, "it reads the new one by itself"
    # Verified, the host name aside.
    served = ssl.get_server_certificate(("127.0.0.1", kept(environment)["webhook_port"]), ca_certs=str(folder / "ca.crt"))
    assert served.strip() in (folder / "tls.crt").read_text()
    assert "there is no queue nowhere" in refusal(environment)


def write_expired(folder: Path) -> None:
    """Put an authority and a certificate there whose time is over, as if nobody had called `up` for years."""
    begin, end = datetime.now(UTC) - timedelta(days=4000), datetime.now(UTC) - timedelta(days=1)
    authority = x509.Authority.make("past", now=begin, until=end)
    issued = authority.serving("past", installed.HOSTS, now=begin, until=end)
    for name, content in (
        ("ca.crt", authority.certificate_pem),
        ("ca.key", authority.key_pem),
        ("tls.crt", issued.certificate_pem),
        ("tls.key", issued.key_pem),
    ):
        (folder / name).write_bytes(content)
