"""A soak in small on the session's cluster, for the tests of what it does and of what it would notice.

`soaked` was killed at every named point and at thirty more moments, its servers were away once in each way, and it was then let come to rest. `rested` is the same with nobody at work
any more: a few Jobs of known standing, no controller, and everything as it ought to be, so that a test may damage one thing.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from random import SystemRandom
from typing import Any

import pytest

from aiqueue.cli.harness import product
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.postgres import DevPostgres
from aiqueue.cli.harness.waiting import until
from fix_managed import Teams
from soak import invariants, jobs
from soak.soak import Soak, begun
from soak.world import of_parts

MORE = 30
REST_SECONDS = 150.0
WAIT_SECONDS = 90.0


@dataclass(slots=True)
class Soaked:
    """A soak that came to rest, and what did not hold then."""

    soak: Soak
    broken: dict[str, list[str]]


@dataclass(slots=True)
class Rested:
    """A soak without controllers: `uids` are those of the Jobs by name.

    `runs` (two pods for ever), `waits` (can never fit), `held`, `lived` (ran for a while, then was deleted) and, in the second namespace,
    `unready` (has an hour to become ready, and never does).
    """

    soak: Soak
    uids: dict[str, str] = field(default_factory=dict)

    @property
    def namespace(self) -> str:
        return self.soak.world.namespaces[0]

    def patch(self, name: str, body: dict[str, Any]) -> None:
        """As the cluster's administrator."""
        where = jobs.path(self.namespace, name)
        self.soak.world.api.call("PATCH", where, body, content_type="application/merge-patch+json")

    def broken(self, damage: str | None = None) -> dict[str, list[str]]:
        """What does not hold, were the ledger damaged so."""
        return invariants.broken(self.soak.evidence(damage))

    def until_broken(self) -> dict[str, list[str]]:
        """What does not hold as soon as something does not: the cluster's own controllers take a moment."""
        return until(lambda: self.broken() or None, seconds=WAIT_SECONDS, what="damage to show")


@pytest.fixture(scope="module")
def soaked(gpu_cluster: DevCluster, teams: Teams, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Soaked]:
    """A soak that was killed at each point and thirty times more, and what did not hold when it had come to rest.

    Its Postgres is its own, since that is crashed and restarted; the cluster's API server only stands still for a while.
    """
    seed = str(SystemRandom().randrange(2**32))
    print(f"seed {seed}")
    namespaces = (teams.take(), teams.take())
    folder = tmp_path_factory.mktemp("soak")
    with ExitStack() as stack:
        postgres = stack.enter_context(DevPostgres.create(folder / "postgres", durable=False))
        url = postgres.create_database("aiqueue_soak")
        product.migrate(url)
        world = stack.enter_context(of_parts(gpu_cluster, namespaces, url, folder, postgres=postgres))
        soak = stack.enter_context(begun(world, seed, outages=False, hurry=True))
        breaker = soak.breaker
        breaker.run(lambda: not breaker.left)
        enough = breaker.tally.breaks + MORE
        for kind in soak.outages.kinds:
            soak.outages.strike(kind)
            some = breaker.tally.breaks + MORE // 10
            breaker.run(lambda some=some: breaker.tally.breaks >= some)  # type: ignore[misc]
        breaker.run(lambda: breaker.tally.breaks >= enough)
        broken = soak.check(REST_SECONDS)
        if broken:
            soak.keep_evidence(broken)
            print(f"evidence is in {folder}")
        yield Soaked(soak, broken)
        soak.owners.rest()  # they would go on to create
        for namespace in namespaces:
            delete_jobs(soak, namespace)


def delete_jobs(soak: Soak, namespace: str) -> None:
    """Delete all Jobs of a namespace and pods that were left behind, and wait until they and their pods are gone."""
    soak.world.api.call("DELETE", jobs.path(namespace), {"propagationPolicy": "Foreground"})
    soak.world.api.call("DELETE", f"/api/v1/namespaces/{namespace}/pods")

    def gone() -> bool:
        pods = soak.world.api.call("GET", f"/api/v1/namespaces/{namespace}/pods")["items"]
        return not pods and not soak.world.api.call("GET", jobs.path(namespace))["items"]

    until(gone, seconds=WAIT_SECONDS, what="the end of all Jobs")


@pytest.fixture(scope="module")
def rested(soaked: Soaked) -> Rested:
    """The same at rest, with Jobs of known standing and no controller."""
    assert soaked.broken == {}
    soak = soaked.soak
    soak.owners.rest()
    soak.breaker.calm()
    soak.door.close()  # it would turn away what can never fit
    soak.administrator.open_up()
    for each in soak.world.namespaces:
        delete_jobs(soak, each)
    made = Rested(soak)
    place = made.namespace
    wanted = {
        "runs": jobs.make(place, "runs", pods=2),
        "waits": jobs.make(place, "waits", pods=6, gpus=100),
        "held": jobs.make(place, "held", annotations={jobs.HOLD: "true"}),
        "lived": jobs.make(place, "lived", runtime="6s", ttlSecondsAfterFinished=0),
    }
    wanted["unready"] = jobs.make(soak.world.namespaces[1], "unready", pod_annotations={jobs.DEV_READY: "never"})
    made.uids = {name: soak.owners.submit(job) for name, job in wanted.items()}

    def settled() -> bool:
        soak.breaker.step()
        runs = soak.world.rows(
            "SELECT 1 FROM run r JOIN workload w ON w.id = r.workload_id WHERE w.uid IN (:runs, :unready) AND r.started_at IS NOT NULL",
            runs=made.uids["runs"],
            unready=made.uids["unready"],
        )
        lived = soak.world.rows("SELECT 1 FROM archived_workload WHERE uid = :uid", uid=made.uids["lived"])
        return len(runs) == 2 and bool(lived) and not made.broken()

    until(settled, seconds=WAIT_SECONDS, what="Jobs of known standing")
    soak.fleet.kill()
    assert made.broken() == {}
    return made
