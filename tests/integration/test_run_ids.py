"""Ids of runs: drawn by a role that has no right to the sequence, past those of a cluster that is ahead of its ledger."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, text

from aiqueue.queue.database import transaction
from aiqueue.queue.errors import LedgerConflict
from aiqueue.queue.store import run_ids
from aiqueue.queue.words import RunOutcome
from fix_rows import Rows
from fix_terms import take_over

pytestmark = pytest.mark.integration


def test_the_sequence_moves_past_an_id_by_the_controllers_role(controller_ledger: Engine, ledger: Engine, rows: Rows) -> None:
    workload = rows.workload("one")
    first = rows.run(workload, tenant="research")
    number = take_over(controller_ledger)
    assert number is not None
    with transaction(ledger) as connection:
        connection.execute(text("REVOKE SELECT ON SEQUENCE run_id_seq FROM aiqueue_controller"))
    with transaction(controller_ledger) as connection:
        assert run_ids.newest(connection) == first
        assert run_ids.newest(connection, first) == first
        assert run_ids.newest(connection, 250_000) == first + 1, "looked at closer, an id is drawn"
        assert run_ids.move_past(connection, number, 250_000) == 250_000 - first - 1
        assert run_ids.newest(connection) == first, "rows say nothing of it"
        assert run_ids.newest(connection, 250_000) > 250_000
    with transaction(ledger) as connection:
        assert run_ids.newest(connection, 250_000) == 250_001, "the owner reads it, and draws none"
        assert connection.execute(text("SELECT count(*) FROM run")).scalar_one() == 1
    assert rows.run(workload, tenant="research", attempt=2, closed=1, outcome=RunOutcome.CANCELLED) == 250_002


def test_an_id_that_no_backup_explains_is_not_followed(controller_ledger: Engine) -> None:
    number = take_over(controller_ledger)
    assert number is not None
    with transaction(controller_ledger) as connection, pytest.raises(LedgerConflict, match="find out who wrote it"):
        run_ids.move_past(connection, number, 10**15)
