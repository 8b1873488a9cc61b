"""`aiqueue doctor` on a real ledger, without a cluster: what it says, how it ends, and how it leads instead of a controller."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
import yaml
from sqlalchemy import Engine, make_url, text
from typer.testing import CliRunner

from aiqueue.admission.controller.term import Term
from aiqueue.admission.doctor.term import own_term
from aiqueue.cli.harness import product
from aiqueue.cli.main import app
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.errors import LedgerError
from aiqueue.queue.store import leadership
from aiqueue.queue.words import WorkloadState
from fix_command import Command, Result
from fix_ledger import Copies
from fix_rows import Rows

pytestmark = pytest.mark.integration

GPU = "nvidia.com/gpu"


def lead(ledger: Engine) -> None:
    """Give somebody a lease that lasts."""
    with ledger.begin() as connection:
        connection.execute(text("UPDATE leader_lease SET expires_at = clock_timestamp() + interval '50 s'"))


def kinds(listed: str) -> list[tuple[str, str]]:
    """(kind of document, kind of difference) of each item."""
    documents: list[Any] = [each for each in yaml.safe_load_all(listed) if each]
    return [(each["kind"], each["status"]["kind"]) for each in documents]


def test_nothing_differs(applied: Command, ledger: Engine) -> None:
    lead(ledger)
    result = applied("doctor", "--no-cluster")
    assert (result.out, result.err) == ("", "ledger, engine and cluster agree\n")


def test_what_differs_is_a_table_with_causes_and_repairs_under_it(applied: Command, ledger: Engine, rows: Rows) -> None:
    lead(ledger)
    held = rows.workload("holds", requests={GPU: 9}, state=WorkloadState.ADMITTED)
    rows.run(held, tenant="research", allocations=[("h100", GPU, 9)])
    result = applied("doctor", "--no-cluster", "--pause=0.1", expect=1)
    heading, error, information, *advice = result.out.splitlines()
    assert heading.split() == ["SEVERITY", "DIFFERENCE", "OBJECT", "SAFE"]
    assert error.split() == ["Error", "RateDiffers", f"queue/team-a/train/{GPU}", "yes"]
    assert information.split() == ["Information", "AboveCeiling", f"tenant/research/h100/{GPU}", "no"]
    assert advice[:6] == [
        "",
        "RateDiffers",
        f"  queue/team-a/train/{GPU}: its usage goes by 0 of {GPU}, and its open runs hold 9",
        "  likely cause   runs were opened or closed by hand, or by a controller of an older version",
        "  --repair       the usage of the queue is counted again from its runs",
        "",
    ]
    wide = applied("doctor", "--no-cluster", "--pause=0.1", "-o", "wide", expect=1)
    assert wide.out.splitlines()[0].split() == ["SEVERITY", "DIFFERENCE", "OBJECT", "SAFE", "WHAT", "CAUSE", "REPAIR"]
    assert result.err == "2 differences: 1 error, 1 for information; `aiqueue doctor --repair` mends 1 of them\n"
    documents = applied("doctor", "--no-cluster", "--pause=0.1", "-o", "yaml", expect=1)
    assert kinds(documents.out) == [("Difference", "RateDiffers"), ("Difference", "AboveCeiling")]
    named = applied("doctor", "--no-cluster", "--pause=0.1", "-o", "name", expect=1)
    assert named.out.split() == [f"queue/team-a/train/{GPU}", f"tenant/research/h100/{GPU}"]


def test_a_repair_says_what_it_did_and_what_is_left(applied: Command, rows: Rows) -> None:
    held = rows.workload("holds", requests={GPU: 9}, state=WorkloadState.ADMITTED)
    rows.run(held, tenant="research", allocations=[("h100", GPU, 9)])
    result = applied("doctor", "--no-cluster", "--pause=0.1", "--repair", "-o", "yaml", expect=1)
    assert kinds(result.out) == [("Mended", "RateDiffers"), ("Difference", "NobodyLeads"), ("Difference", "AboveCeiling")]
    assert result.err == "2 differences: 1 warning, 1 for information\n"
    (entry,) = [row for row in applied("get", "audit", "-o", "json").json()["items"] if row["status"]["kind"] == "Usage"]  # type: ignore[attr-defined]
    assert (entry["status"]["verb"], entry["status"]["claimedBy"]) == ("Updated", "ana, by aiqueue doctor")


def repaired(meant: str, repair: str, expect: int) -> Result:
    """What a repair comes to for who has these logins."""
    environment = {"AIQUEUE_DATABASE_URL": meant, "AIQUEUE_REPAIR_DATABASE_URL": repair}
    asked = ["doctor", "--no-cluster", "--pause=0.1", "--repair", "-o", "yaml"]
    done = CliRunner().invoke(app, asked, env=environment, catch_exceptions=False)
    assert done.exit_code == expect, done.output
    return Result(done.exit_code, done.stdout, done.stderr)


@pytest.fixture
def another_ledger_url(ledger_copies: Copies) -> Iterator[str]:
    """A ledger besides the test's own."""
    url = ledger_copies.take()
    database = open_database(url, application_name="aiqueue-test", pool_size=1)
    with transaction(database) as connection:  # copies of one template would take one another for themselves
        connection.execute(text("UPDATE ledger SET uid = gen_random_uuid()"))
    database.dispose()
    yield url
    ledger_copies.give_back(url)


@pytest.mark.usefixtures("applied")
def test_an_administrator_repairs_with_the_login_that_is_for_it(
    rows: Rows, ledger: Engine, ledger_url: str, controller_url: str, another_ledger_url: str
) -> None:
    held = rows.workload("holds", requests={GPU: 4}, state=WorkloadState.ADMITTED)
    rows.run(held, tenant="research", allocations=[("h100", GPU, 4)])
    lead(ledger)
    admin_url = product.login(ledger_url, "admin")
    refused = repaired(admin_url, "", 1)
    assert refused.out == ""
    assert "permission denied" in refused.err
    assert "Name the ledger with it in AIQUEUE_REPAIR_DATABASE_URL, as `aiqueue dev env` does" in refused.err
    other = repaired(admin_url, another_ledger_url, 1)
    assert "name one ledger in both" in other.err
    with ledger.begin() as connection:
        connection.execute(text("UPDATE leader_lease SET expires_at = clock_timestamp()"))
    done = repaired(admin_url, controller_url, 1)
    assert kinds(done.out) == [("Mended", "RateDiffers"), ("Difference", "NobodyLeads")]
    for said in (refused, other, done):
        for url in (admin_url, controller_url):
            assert str(make_url(url).password) not in said.out + said.err


def test_a_database_of_another_version_is_not_looked_at(applied: Command, ledger: Engine) -> None:
    with ledger.begin() as connection:
        connection.execute(text("UPDATE alembic_version SET version_num = '0001'"))
    result = applied("doctor", "--no-cluster", "--repair", expect=1)
    assert "SchemaDiffers" in result.out
    assert "run `aiqueue db upgrade`" in result.out


def test_options_that_contradict_each_other(applied: Command) -> None:
    assert "leave one out" in applied("doctor", "--no-cluster", "--kubeconfig=/dev/null", expect=2).err


def test_the_doctor_leads_instead_of_who_did(term: Term, ledger: Engine, controller_url: str) -> None:
    """Whose writes are fenced from then on; and gives leadership back at once."""
    with own_term(controller_url) as taken:
        assert taken.number == term.number + 1
        with taken.transaction() as connection:
            leadership.fence(connection, taken.number)
            assert leadership.current(connection).holder.startswith("doctor-")
        with pytest.raises(LedgerError), term.transaction() as connection:
            leadership.fence(connection, term.number)
    with transaction(ledger) as connection:
        assert leadership.current(connection).expired
