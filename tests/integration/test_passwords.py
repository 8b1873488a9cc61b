"""The password of a database login is shown to nobody: not in a message, not in a log, not in the list of processes."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import make_url

from aiqueue.cli.exits import Exit
from aiqueue.cli.harness import ports
from aiqueue.queue.settings import Settings
from fix_command import Command
from fix_doors import Webhooks

pytestmark = pytest.mark.integration

PASSWORD = "correct-horse-battery"
COMMANDS = (("get", "queues"), ("db", "check"), ("db", "upgrade"), ("delete", "class", "x"))


def unreachable(server_url: str) -> dict[str, Exit]:
    """URLs that lead nowhere, each in its own way, and how a command ends with them."""
    (port,) = ports.choose(1)
    here = make_url(server_url).set(password=PASSWORD)
    nobody = here.set(port=port)
    nowhere = here.set(host="no-such-host.invalid")
    found = {each.render_as_string(hide_password=False): Exit.LEDGER for each in (here, nobody, nowhere)}
    return found | dict.fromkeys((f"mysql://u:{PASSWORD}@h/d", f"postgresql://u:{PASSWORD}@h:port/d", PASSWORD), Exit.REFUSED)


@pytest.mark.parametrize("command", COMMANDS, ids=" ".join)
def test_no_command_shows_it(server_url: str, command: tuple[str, ...]) -> None:
    for url, code in unreachable(server_url).items():
        failed = Command(url)(*command, expect=code)
        assert failed.err.strip()
        assert PASSWORD not in failed.out + failed.err


@pytest.mark.parametrize("command", ["controller", "webhook"])
def test_no_process_shows_it(command: str, tmp_path: Path) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "aiqueue.cli.main", command],
        env={
            "PATH": "/usr/bin:/bin",
            "HOME": str(tmp_path),
            "AIQUEUE_DATABASE_URL": f"mysql://u:{PASSWORD}@h/d",
            "AIQUEUE_WEBHOOK_CERTIFICATE_FOLDER": str(tmp_path),
        },
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
        timeout=60,
    )
    assert done.returncode > 0
    assert done.stderr.strip()
    assert "Traceback" not in done.stderr
    assert PASSWORD not in done.stdout + done.stderr


def test_no_log_of_a_webhook_shows_it(webhooks: Webhooks) -> None:
    webhooks.webhook_url = make_url(webhooks.webhook_url).set(password=PASSWORD).render_as_string(hide_password=False)
    started = webhooks.start()
    webhooks.until(lambda: "password authentication failed" in started.said(), "the webhook to say what is wrong")
    told = started.get("/readyz")[1] + started.said()
    assert PASSWORD not in told
    assert PASSWORD not in Path(f"/proc/{started.pid}/cmdline").read_text()


def test_settings_do_not_print_it() -> None:
    settings = Settings.model_validate({"database_url": f"postgresql://u:{PASSWORD}@h/d"})
    assert PASSWORD not in f"{settings!r} {settings} {settings.model_dump()}"
