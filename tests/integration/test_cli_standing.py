"""What `aiqueue get` says of how tenants and queues stand: use, share and decayed usage, as the engine goes by them."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest
from rich.console import Console
from sqlalchemy import Connection, Engine, text

from aiqueue.cli.listings import Query, answer
from aiqueue.cli.printers import Listing, TerminalPrinter
from aiqueue.queue.database import transaction
from aiqueue.queue.documents import Record
from aiqueue.queue.records import Flavor, Queue, Quota, Tenant
from aiqueue.queue.store import configuration
from aiqueue.queue.words import WorkloadState
from fix_rows import Rows

pytestmark = pytest.mark.integration

GPU = "nvidia.com/gpu"
HOUR = 3600
# Half-life a year: what was folded an hour ago is as good as what is there now.
YEAR = 365 * 24 * HOUR


@pytest.fixture
def lab(ledger: Engine, rows: Rows) -> Engine:
    """Three tenants that lend one another: `research` and `free` borrow, `product` has room. 48 GPUs in all."""
    tenants: list[Tenant] = [
        Tenant("lab", quotas=(Quota("h100", GPU, 8),)),
        Tenant("research", "lab", Fraction(2), (Quota("h100", GPU, 16), Quota("h100", "cpu", 100_000))),
        Tenant("product", "lab", Fraction(1), (Quota("h100", GPU, 24),)),
        Tenant("free", "lab", Fraction(0)),
        Tenant("alone", quotas=(Quota("h100", GPU, 4),)),
    ]
    queues = [
        Queue("team-a", "train", "research"),
        Queue("team-a", "batch", "research", weight=Fraction(4)),
        Queue("team-b", "serve", "product"),
        Queue("team-c", "idle", "free"),
    ]
    objects: list[Record] = [Flavor("h100"), *tenants, *queues]
    with transaction(ledger) as connection:
        configuration.apply(connection, objects, claimed_by="ana")
    for number, (tenant, gpus) in enumerate((("research", 12), ("research", 10), ("product", 4), ("free", 2), ("alone", 9))):
        admitted = rows.workload(f"w{number}", state=WorkloadState.ADMITTED)
        rows.run(admitted, tenant=tenant, allocations=[("h100", GPU, gpus)])
    use(ledger, "train", GPU, 48.0 * HOUR, rate=22)
    use(ledger, "train", "cpu", 200_000.0 * HOUR)
    use(ledger, "train", "memory", 512.0 * 2**30 * HOUR)
    use(ledger, "batch", GPU, 48.0 * 2 * HOUR * 1.0001)  # a little more, since it is less with every millisecond
    return ledger


def use(ledger: Engine, queue: str, resource: str, value: float, *, rate: int = 0) -> None:
    """Decayed usage of a queue, as folded just now."""
    statement = "INSERT INTO queue_usage SELECT id, :resource, :value, :rate, :half_life, clock_timestamp() FROM queue WHERE name = :queue"
    values = {"resource": resource, "value": value, "rate": rate, "half_life": YEAR, "queue": queue}
    with transaction(ledger) as connection:
        connection.execute(text(statement), values)


def listed(connection: Connection, kind: str, query: Query | None = None) -> Listing:
    now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
    return answer(connection, kind, query or Query(), now).listing


def cells(listing: Listing, title: str) -> dict[str, str]:
    """By name, the cells of a column."""
    titles = [column.title for column in listing.columns]
    return {row.cells[titles.index("NAME")]: row.cells[titles.index(title)] for row in listing.rows}


def statuses(listing: Listing) -> dict[str, Mapping[str, Any]]:
    return {row.document["metadata"]["name"]: row.document["status"] for row in listing.rows}


def test_tenants_with_what_they_use_borrow_and_share(lab: Engine) -> None:
    with lab.connect() as connection:
        listing = listed(connection, "tenants")
        (only,) = listed(connection, "tenants", Query(name="research")).rows
    # 48 may be lent. research borrows 6 of them at weight 2, free 2 at weight 0; alone is over its own quota, which is no borrowing.
    assert cells(listing, "SHARE") == {
        "lab": "",
        "research": f"{6 / 48 / 2:.3g}",
        "product": "0",
        "free": "infinite",
        "alone": "",
    }
    assert cells(listing, "BORROWED") == {
        "lab": "",
        "research": f"h100:{GPU}=6",
        "product": "",
        "free": f"h100:{GPU}=2",
        "alone": "",
    }
    assert cells(listing, "USED/NOMINAL")["research"] == f"h100:{GPU}=22/16,h100:cpu=0/100"
    found = statuses(listing)
    assert {name: status["share"] for name, status in found.items()} == {
        "lab": 0.0,
        "research": 0.0625,
        "product": 0.0,
        "free": None,
        "alone": 0.0,
    }
    (gpus, cpus) = found["research"]["capacity"]
    assert (gpus["used"], gpus["nominal"], gpus["borrowed"]) == ("22", "16", "6")
    assert (cpus["used"], cpus["borrowed"]) == ("0", "0")
    assert only.document["status"] == found["research"]  # its siblings count also where they are not shown


def test_queues_with_their_weight_and_what_they_used(lab: Engine) -> None:
    with lab.connect() as connection:
        listing = listed(connection, "queues")
    # The tree has 48 GPUs and 100 cores, nobody has quota of memory: an hour of all GPUs and two of all cores.
    assert cells(listing, "USAGE") == {"train": "3h", "batch": "30m", "serve": "0s", "idle": "0s"}
    assert cells(listing, "WEIGHT") == {"train": "1", "batch": "4", "serve": "1", "idle": "1"}
    assert cells(listing, "USED")["train"] == f"cpu=200h,memory=512Gih,{GPU}=48h"
    found = statuses(listing)
    assert found["batch"]["usage"]["treeSeconds"] == pytest.approx(HOUR / 2, rel=1e-3)
    of_train = {each["resource"]: each for each in found["train"]["usage"]["resources"]}
    assert {resource: each["held"] for resource, each in of_train.items()} == {GPU: "22", "cpu": "0", "memory": "0"}
    assert of_train[GPU]["baseUnitSeconds"] == pytest.approx(48 * HOUR, rel=1e-2)
    assert of_train[GPU]["halfLife"] == "365d"
    assert found["serve"]["usage"] == {"treeSeconds": 0.0, "resources": []}


def test_usage_goes_on_where_something_is_held(lab: Engine) -> None:
    with transaction(lab) as connection:
        connection.execute(text("UPDATE queue_usage SET as_of = as_of - interval '48 hours'"))
        listing = listed(connection, "queues")
    # Two days of 22 of the 48 GPUs are 22 hours of all of them.
    assert cells(listing, "USAGE")["train"] in ("24h", "25h")
    assert statuses(listing)["train"]["usage"]["treeSeconds"] == pytest.approx(25 * HOUR, rel=0.01)


@pytest.mark.parametrize("width", [60, 80, 120])
@pytest.mark.parametrize("kind", ["tenants", "queues"])
@pytest.mark.parametrize("wide", [False, True])
def test_the_tables_fit_a_terminal(lab: Engine, kind: str, width: int, wide: bool) -> None:
    with lab.connect() as connection:
        listing = listed(connection, kind)
    out = io.StringIO()
    Console(file=out, width=width, force_terminal=False).print(TerminalPrinter(wide=wide).table(listing, width))
    lines = out.getvalue().splitlines()
    assert len(lines) == 1 + len(listing.rows)  # nothing wraps
    assert all(len(line) <= width for line in lines)
    if not wide and width >= 80:
        assert "research" in out.getvalue()
        assert "3h" in out.getvalue() or kind == "tenants"


def test_a_listing_at_an_earlier_time_does_not_fail(lab: Engine) -> None:
    """The command's clock may be a little behind that of the last fold."""
    with lab.connect() as connection:
        now: datetime = connection.execute(text("SELECT clock_timestamp()")).scalar_one()
        listing = answer(connection, "queues", Query(), now - timedelta(hours=1)).listing
    assert cells(listing, "USED")["batch"] == f"{GPU}=96h"
