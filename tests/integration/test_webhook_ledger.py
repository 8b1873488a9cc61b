"""The webhook and its ledger: as new as it, careful before it refuses, and no obstacle when Postgres is away."""

from __future__ import annotations

import threading
import time
from concurrent.futures import ThreadPoolExecutor

import pytest
from sqlalchemy import make_url, text
from sqlalchemy.exc import DBAPIError

from aiqueue.admission.webhook import follower as follower_module
from aiqueue.admission.webhook.follower import MOST_WAITING, READ_THROUGH_SECONDS, ConfigurationFollower
from aiqueue.cli.harness import databases, product
from aiqueue.cli.harness.waiting import until
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.errors import LedgerError
from fix_doors import Webhooks
from fix_prompt import prompt
from fix_reviews import Client, Verdict, Wire, job, wire_to

pytestmark = pytest.mark.integration
TEAM = "team-a"
#: What the API server allows, less what it needs itself.
DEADLINE_SECONDS = 1.9


def queue(name: str, state: str = "Active") -> str:
    return (
        (
            "{apiVersion: aiqueue.dev/v1, kind: Queue, metadata: {name: NAME, namespace: team-a}, spec: {tenant: ops, state: STATE}}"
        )
        .replace("NAME", name)
        .replace("STATE", state)
    )


def cpu(name: str) -> dict[str, object]:
    return job(TEAM, name, gpus=0)


def seconds_until(client: Client, name: str, *, allowed: bool, since: float) -> float:
    until(
        lambda: client.ask(cpu(name)).allowed is allowed,
        seconds=60,
        what=f"queue {name} to be seen",
        longest_pause_seconds=0.01,
    )
    return time.monotonic() - since


def test_what_is_applied_is_known_within_a_second(webhooks: Webhooks) -> None:
    with Client(webhooks.await_ready(webhooks.start())) as client:
        took = []
        for number in range(3):
            webhooks.apply(queue(f"q{number}"))
            assert client.ask(cpu(f"q{number}")).allowed
            # From open to closed: only what is in memory can refuse this one.
            webhooks.apply(queue(f"q{number}", "Hold"))
            took.append(seconds_until(client, f"q{number}", allowed=False, since=time.monotonic()))
    assert min(took) < 1.0, took  # a busy machine delays any of them


def test_a_lost_notification_costs_less_than_a_second(webhooks: Webhooks) -> None:
    with Client(webhooks.await_ready(webhooks.start())) as client:
        took = []
        for number in range(3):
            state = "Active" if number % 2 else "Hold"
            with transaction(webhooks.ledger) as connection:  # what `apply` does, and nobody is notified
                connection.execute(text("UPDATE queue SET state = :state WHERE name = 'cpu'"), {"state": state})
                connection.execute(text("UPDATE config_revision SET revision = revision + 1"))
            if state == "Hold":
                took.append(seconds_until(client, "cpu", allowed=False, since=time.monotonic()))
            else:
                assert client.ask(cpu("cpu")).allowed  # read through
    assert min(took) < 1.0, took  # a busy machine delays any of them


def test_it_reads_through_before_it_refuses(webhooks: Webhooks) -> None:
    with Client(webhooks.await_ready(webhooks.start())) as client:
        unknown = client.ask(cpu("later"))
        assert not unknown.allowed
        assert "later" in unknown.sentence
        for number in range(10):
            webhooks.apply(queue(f"new-{number}"))
            assert client.ask(cpu(f"new-{number}")).allowed, number
        webhooks.apply(queue("shut", "Hold"))
        closed = client.ask(cpu("shut"))
        # What refuses it is what the ledger says, not what was in memory, which had no such queue.
        assert not closed.allowed
        assert closed.sentence == client.ask(cpu("closed")).sentence.replace("closed", "shut")


def test_a_ledger_that_went_back_is_followed(webhooks: Webhooks) -> None:
    with Client(webhooks.await_ready(webhooks.start())) as client:
        webhooks.apply(queue("gone"))
        assert client.ask(cpu("gone")).allowed
        with transaction(webhooks.ledger) as connection:  # as a restored backup would be
            connection.execute(text("DELETE FROM queue WHERE name = 'gone'"))
            connection.execute(text("UPDATE config_revision SET revision = 1"))
        assert seconds_until(client, "gone", allowed=False, since=time.monotonic()) < 30


def test_a_ledger_restored_to_the_same_revision_is_followed(webhooks: Webhooks, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(follower_module, "_WHOLE_SECONDS", 0.5)
    follower = ConfigurationFollower(webhooks.webhook_url)
    follower.start()
    try:
        before = follower.read_through().configuration
        with transaction(webhooks.ledger) as connection:
            connection.execute(text("DELETE FROM queue WHERE name = 'closed'"))
        until(lambda: (after := follower.current()) and len(after.configuration.queues) == 2, seconds=60, what="the change")
        assert len(before.queues) == 3
        assert follower.read_through().configuration.revision == before.revision
    finally:
        follower.stop()


def _in_time(client: Client, name: str) -> Verdict:
    return prompt(lambda: client.ask(cpu(name)), DEADLINE_SECONDS)


@pytest.mark.parametrize("fault", ["cut", "hang"])
def test_with_postgres_away_everything_is_let_in_with_a_warning(webhooks: Webhooks, fault: str) -> None:
    with wire_to(webhooks.webhook_url) as wire:
        webhook = webhooks.await_ready(webhooks.start(database_url=wire.url))
        with Client(webhook, connections=16) as client:
            assert not client.ask(cpu("nowhere")).allowed
            getattr(wire, fault)()
            unsure = _in_time(client, "nowhere")
            assert unsure.allowed
            assert any("ledger" in each or "Postgres" in each for each in unsure.warnings), unsure
            webhooks.until(lambda: _in_time(client, "cpu").warnings or None, "a warning for a Job that is fine", seconds=60)
            assert client.ask(cpu("cpu")).allowed
            # What needs no data is refused all the same.
            broken = job(TEAM, "cpu", gpus=0, annotations={"aiqueue.dev/min-parallelism": "none"})
            assert client.ask(broken).code == 422
            status, said = webhook.get("/readyz")
            assert status == 200
            assert "ledger" in said
            with ThreadPoolExecutor(16) as crowd:
                assert all(each.allowed for each in crowd.map(lambda number: _in_time(client, f"no-{number}"), range(64)))
            wire.mend()
            webhooks.until(lambda: not client.ask(cpu("nowhere")).allowed, "the ledger to be asked again", seconds=60)
            webhooks.until(lambda: webhook.get("/readyz") == (200, "ok\n"), "nothing to remark", seconds=60)
            assert not client.ask(cpu("cpu")).warnings


def test_it_is_not_ready_before_it_knows_a_configuration(webhooks: Webhooks) -> None:
    with wire_to(webhooks.webhook_url) as wire:
        wire.cut()
        webhook = webhooks.start(database_url=wire.url)
        status, said = webhooks.until(
            lambda: found if (found := webhook.get("/readyz"))[0] == 503 and "refused" in found[1] else None, "an answer"
        )
        assert said.startswith("no configuration was loaded yet: ")
        assert webhook.get("/healthz") == (200, "ok\n")
        with Client(webhook) as client:
            unknown = _in_time(client, "nowhere")
            assert unknown.allowed
            assert unknown.warnings
        wire.mend()
        webhooks.await_ready(webhook)
    assert status == 503


def test_a_ledger_of_another_version_or_without_rights_is_said_in_a_sentence(
    webhooks: Webhooks, empty_database_url: str
) -> None:
    empty = webhooks.start(database_url=product.login(empty_database_url, "webhook"))
    stranger = make_url(webhooks.ledger_url).set(username="aiqueue_test_stranger", password="x")
    databases.create_login(webhooks.ledger_url, "aiqueue_test_stranger", "x")
    refused = webhooks.start(database_url=stranger.render_as_string(hide_password=False))
    for webhook, sentence in ((empty, "aiqueue db check"), (refused, "aiqueue_webhook")):
        status, said = webhooks.until(
            lambda webhook=webhook, sentence=sentence: (  # type: ignore[misc]  # bound now, as it must be in a loop
                found if sentence in (found := webhook.get("/readyz"))[1] else None
            ),
            f"a sentence with {sentence}",
        )
        assert status == 503
        assert "Traceback" not in webhook.said(), said


def test_its_sessions_cannot_write_whatever_the_login_may(webhooks: Webhooks) -> None:
    follower = ConfigurationFollower(webhooks.ledger_url)  # its owner
    follower.start()
    try:
        assert follower.read_through().configuration.queues
        with pytest.raises(LedgerError, match="the ledger is read-only"), transaction(follower._database) as connection:
            connection.execute(text("UPDATE config_revision SET revision = revision + 1"))
    finally:
        follower.stop()
    own = open_database(webhooks.webhook_url, application_name="test", pool_size=1)
    try:
        with pytest.raises(DBAPIError, match="permission denied"), transaction(own) as connection:
            connection.execute(text("UPDATE config_revision SET revision = revision + 1"))
    finally:
        own.dispose()


def test_callers_share_a_read_that_began_after_they_asked(webhooks: Webhooks) -> None:
    follower = ConfigurationFollower(webhooks.webhook_url)
    follower.start()
    try:
        follower.read_through()
        before = follower._begun
        with ThreadPoolExecutor(32) as crowd:
            barrier = threading.Barrier(32)

            def ask(_: int) -> int:
                barrier.wait()
                return follower.read_through().configuration.revision

            assert len(set(crowd.map(ask, range(32)))) == 1
        assert follower._begun - before < 32
    finally:
        follower.stop()


def _waits(follower: ConfigurationFollower, together: threading.Barrier) -> float:
    together.wait()
    began = time.monotonic()
    with pytest.raises(LedgerError):
        follower.read_through()
    return time.monotonic() - began


def test_waiting_for_a_ledger_that_hangs_is_bounded_in_time_and_number(webhooks: Webhooks) -> None:
    with wire_to(webhooks.webhook_url) as wire:
        follower = ConfigurationFollower(wire.url)
        follower.start()
        try:
            follower.read_through()
            wire.hang()
            together = threading.Barrier(MOST_WAITING + 10)
            with ThreadPoolExecutor(MOST_WAITING + 10) as crowd:
                took = list(crowd.map(lambda _: _waits(follower, together), range(MOST_WAITING + 10)))
            assert max(took) < READ_THROUGH_SECONDS + 5
            assert sum(each < READ_THROUGH_SECONDS * 0.9 for each in took) >= 10  # sent away, not after a wait
            assert _mended(wire, follower) > 0
        finally:
            follower.stop()


def _mended(wire: Wire, follower: ConfigurationFollower) -> int:
    wire.mend()

    def read() -> int | None:
        try:
            return follower.read_through().configuration.revision
        except LedgerError:
            return None

    return until(read, seconds=60, what="the ledger to be back")
