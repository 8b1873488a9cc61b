"""A ledger that fails in every way a ledger can: the controller says so, does not spin, and goes on by itself."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
from pathlib import Path

import psycopg
import pytest

from aiqueue.cli.harness import databases
from fix_broken_postgres import Broken

pytestmark = pytest.mark.e2e

UNREACHABLE = "the ledger cannot be reached or ended the session"


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGQUIT], ids=["fast", "immediate"])
def test_a_server_that_is_down_comes_back(broken: Broken, number: signal.Signals) -> None:
    with broken.breaking():
        broken.halt(number)
        broken.until_ready_says(UNREACHABLE)
        broken.submit("meanwhile")
        tries = broken.logged("leadership cannot be asked for")
        broken.stage.until(
            lambda: broken.logged("leadership cannot be asked for") > tries + 3, "the controller to have tried again"
        )
        broken.bring_back()
    broken.recovers()


def test_a_backend_that_is_killed_takes_the_server_with_it_for_a_moment(broken: Broken) -> None:
    with broken.breaking():
        rebuilt = broken.logged("engine built")
        os.kill(broken.stage.until(broken.backends, "the controller to have a session")[-1], signal.SIGKILL)
        broken.submit("meanwhile")
        broken.stage.until(lambda: broken.logged("engine built") > rebuilt, "the engine to be built anew")
    broken.stage.ledger.dispose()
    broken.recovers()


def test_sessions_that_are_ended_again_and_again(broken: Broken) -> None:
    with broken.breaking():
        broken.submit("meanwhile")
        for _ in range(15):
            broken.stage.until(broken.end_sessions, "the controller to have sessions again")
    broken.recovers()


def test_a_ledger_that_is_read_only(broken: Broken) -> None:
    with broken.breaking():
        broken.alter("SET default_transaction_read_only = on")
        broken.end_sessions()
        broken.submit("meanwhile")
        broken.until_ready_says("the ledger is read-only")
        broken.alter("RESET default_transaction_read_only")  # sessions that began read-only stay so
    broken.recovers()


def test_a_ledger_that_takes_no_more_connections(broken: Broken) -> None:
    with broken.breaking():
        broken.alter("CONNECTION LIMIT 0")
        broken.end_sessions()
        broken.submit("meanwhile")
        broken.until_ready_says("too many connections")
        broken.alter("CONNECTION LIMIT -1")
    broken.recovers()


FAIL = """
CREATE FUNCTION public.fail() RETURNS trigger LANGUAGE plpgsql AS $$
BEGIN
  RAISE EXCEPTION 'could not serialize access' USING ERRCODE = '40001';
END $$;
CREATE TRIGGER fail BEFORE INSERT ON run FOR EACH ROW EXECUTE FUNCTION public.fail();
"""


def test_transactions_that_cannot_be_serialized(broken: Broken) -> None:
    """Whatever the role's default: the controller's isolation is its own. Such failures may come nevertheless."""
    with broken.breaking():
        broken.alter("SET default_transaction_isolation = 'serializable'")
        broken.administer(FAIL)
        try:
            broken.end_sessions()
            broken.submit("meanwhile")
            broken.until_ready_says("took it back (could not serialize access)")
        finally:
            broken.alter("RESET default_transaction_isolation")
            broken.administer("DROP FUNCTION public.fail() CASCADE")
        broken.stage.until_state("meanwhile", "Admitted")
        broken.end_sessions()
    broken.recovers()


def test_a_deadlock_with_somebody_else(broken: Broken) -> None:
    broken.submit("meanwhile", annotations={"aiqueue.dev/hold": "true"})
    broken.stage.until_state("meanwhile", "Held")
    waiting = (
        "SELECT 1 FROM pg_stat_activity WHERE usename = :login AND wait_event_type = 'Lock' AND query LIKE '%UPDATE workload%'"
    )
    with broken.breaking(), databases.connection(broken.stage.installed.owner_url) as other:
        with other.transaction():
            other.execute("SET LOCAL deadlock_timeout = '30s'")  # whoever looks first is the victim
            other.execute("SELECT 1 FROM workload WHERE name = 'meanwhile' FOR UPDATE")
            broken.stage.cluster.kubectl(
                "annotate", "job", "meanwhile", f"-n={broken.stage.namespace}", "aiqueue.dev/hold=false", "--overwrite"
            )
            # Within one transaction a session goes on seeing who waits as it saw that first.
            broken.stage.until(lambda: broken.stage.rows(waiting, login=broken.login) or None, "the controller to wait")
            other.execute("UPDATE leader SET holder = holder")  # which the controller has locked
        # It looks once, a second after it began to wait, and waits for five.
        victim = ("waited for one another", "keeps a table or row of the ledger locked")
        broken.stage.until(lambda: any(map(broken.logged, victim)), "the controller to have been the victim")
    broken.recovers()


def test_a_table_that_somebody_keeps_locked(broken: Broken) -> None:
    with broken.breaking(), databases.connection(broken.stage.installed.owner_url) as other, other.transaction():
        other.execute("LOCK TABLE workload IN ACCESS EXCLUSIVE MODE")
        broken.submit("meanwhile")
        broken.until_ready_says("somebody keeps a table or row of the ledger locked")
    broken.recovers()


@pytest.mark.parametrize("answered", [False, True], ids=["not-committed", "committed"])
@pytest.mark.parametrize(
    "marker",
    ["INSERT INTO workload (", "UPDATE workload w SET state = 'Admitted'", "UPDATE leader_lease SET renewed_at"],
    ids=["observed", "admitted", "renewed"],
)
def test_a_session_that_is_lost_at_commit(broken: Broken, marker: str, answered: bool) -> None:
    with broken.breaking():
        broken.proxy.cut_at_commit(marker, answered=answered)
        broken.submit("meanwhile")
        broken.stage.until(lambda: not broken.proxy.armed, "the session to be cut")
    broken.recovers()


@pytest.mark.parametrize("answered", [False, True], ids=["not-committed", "committed"])
def test_a_take_over_that_is_lost_at_commit(broken: Broken, answered: bool) -> None:
    with broken.breaking():
        broken.proxy.cut_at_commit("UPDATE leader SET term = term + 1", answered=answered)
        broken.stage.do(
            "UPDATE leader SET term = term + 1",
            "UPDATE leader_lease SET term = term + 1, expires_at = clock_timestamp()",
        )
        broken.submit("meanwhile")
        broken.stage.until(lambda: not broken.proxy.armed, "the session to be cut")
    broken.recovers()


def test_a_slow_ledger(broken: Broken) -> None:
    broken.proxy.slow(0.05)
    try:
        broken.submit("meanwhile")
        broken.stage.until_running("meanwhile")
        broken.until_ready_says("ok")
    finally:
        broken.proxy.slow(0)
    broken.recovers()


def test_sessions_that_have_gone_silent(broken: Broken) -> None:
    """Neither side is told anything: TCP is well, keepalives are answered, the server cannot say that time is up."""
    with broken.breaking():
        broken.proxy.fall_silent()
        broken.submit("meanwhile")
        broken.until_ready_says("was not renewed in time")
    broken.recovers()
    broken.stage.until(lambda: broken.logged("no answer within") > 0, "the silence to be told")


def test_a_full_disk(broken: Broken) -> None:
    """No file may grow: a table that is to be extended fails as it does on a full disk."""
    most = 16 * 2**20  # a segment of the write-ahead log, which exists at its full size
    broken.administer(
        "ALTER TABLE plan SET (autovacuum_enabled = false)",
        "INSERT INTO plan (term, seq, config_revision, admissions, evictions, decided_at)"
        " SELECT 1000000, g, 1, 0, 0, now() FROM generate_series(1, 260000) AS g",
        "CHECKPOINT",
    )
    with broken.breaking():
        limit_files(broken.postmaster, most)
        with pytest.raises(psycopg.Error, match="too large"):
            fill_the_last_page(broken)
        broken.submit("meanwhile")
        broken.until_ready_says("see whether its disk is full", "in trouble: see its log")
        limit_files(broken.postmaster, resource.RLIM_INFINITY)
    broken.recovers()


def test_a_full_disk_under_the_log_of_the_server(broken: Broken) -> None:
    """It cannot write what it has promised to keep, and ends itself."""
    with broken.breaking():
        limit_files(broken.postmaster, 4096)
        broken.submit("meanwhile")
        broken.stage.until(lambda: not broken.server.running(), "the server to end itself")
        broken.until_ready_says(UNREACHABLE)
        broken.bring_back()
    broken.recovers()


def limit_files(postmaster: int, size: int) -> None:
    """How large a file the server's processes, those there are and those to come, may write.

    Done by a child with the server's account: root may lack the right to do it to others.
    """
    children = Path(f"/proc/{postmaster}/task/{postmaster}/children").read_text().split()
    account = Path(f"/proc/{postmaster}").stat()
    child = os.fork()
    if child == 0:
        try:
            if os.geteuid() != account.st_uid:
                os.setgid(account.st_gid)
                os.setuid(account.st_uid)
            for pid in [postmaster, *map(int, children)]:
                with contextlib.suppress(ProcessLookupError):  # it has ended meanwhile
                    _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
                    resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
        except BaseException:  # noqa: BLE001 -- the child must not go on as the test
            os._exit(1)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0


def fill_the_last_page(broken: Broken) -> None:
    """Add rows until the table has to be extended."""
    with databases.connection(broken.stage.installed.owner_url) as session:
        for number in range(1000):
            session.execute(
                "INSERT INTO plan (term, seq, config_revision, admissions, evictions, decided_at)"
                " VALUES (1000001, %s, 1, 0, 0, now())",
                [number],
            )
