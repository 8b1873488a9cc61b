"""A term of the doctor's own: taken from whoever leads, held while it mends, given back at once."""

from __future__ import annotations

import os
import secrets
import socket
import time
from collections.abc import Iterator
from contextlib import contextmanager

from sqlalchemy.exc import DBAPIError

from aiqueue.admission.controller.clock import LedgerClock
from aiqueue.admission.controller.term import Term
from aiqueue.queue.database import open_database, transaction
from aiqueue.queue.errors import AiqueueError
from aiqueue.queue.store import doctor, leadership

LEASE_SECONDS = 15.0
_TIMEOUT_SECONDS = 10.0


class MayNotLead(AiqueueError):
    """The login has no right to take leadership over."""


@contextmanager
def own_term(url: str) -> Iterator[Term]:
    """Lead instead of whoever does. A controller that led stands by, and leads again soon after the end.

    Raises:
        LedgerError: the ledger cannot be reached.
        MayNotLead: this login may not lead, or may not end the sessions of the one that does.
    """
    holder = f"doctor-{socket.gethostname()}-{os.getpid()}-{secrets.token_hex(3)}"
    database = open_database(url, application_name="aiqueue-doctor", pool_size=1, statement_timeout_seconds=_TIMEOUT_SECONDS)
    began = time.monotonic()
    try:
        with transaction(database) as connection:
            number = doctor.seize(connection, holder, LEASE_SECONDS)
            leader = leadership.current(connection)
    except DBAPIError as error:
        said = str(error.orig).strip().partition("\n")[0]
        raise MayNotLead(
            f"leadership cannot be taken over ({said}): it takes the login of the controller to mend anything. Name the ledger with it in"
            " AIQUEUE_REPAIR_DATABASE_URL, as `aiqueue dev env` does for the development environment; or repair from the controller's pod:"
            " kubectl --namespace=aiqueue-system exec deployment/aiqueue-controller -- aiqueue doctor --repair"
        ) from error
    finally:
        database.dispose()
    clock = LedgerClock(leader.now)
    clock.at_least(leader.renewed_at)
    term = Term(number, url, holder=holder, lease_seconds=LEASE_SECONDS, clock=clock, attempt_started=began)
    term.start_renewing()
    try:
        yield term
    finally:
        term.close()
