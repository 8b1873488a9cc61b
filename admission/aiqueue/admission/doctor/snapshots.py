"""What one look saw: the cluster first, then the ledger in one transaction, then what of the cluster the ledger asks for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from aiqueue.queue.observations import Observation
from aiqueue.queue.records import Configuration
from aiqueue.queue.store.clusters import Cluster
from aiqueue.queue.store.doctor import ClaimFact, OpenAction, PastRun, RateFact
from aiqueue.queue.store.known import Known
from aiqueue.queue.store.leadership import Leader

Amounts = Mapping[tuple[str, str, str], int]  # (tenant, flavor, resource)


@dataclass(frozen=True, slots=True)
class LivePod:
    """A pod whose phase is not final. `node` is "" where it is not placed, or was not asked for."""

    namespace: str
    name: str
    deleting_since: datetime | None = None
    node: str = ""


@dataclass(frozen=True, slots=True)
class Surroundings:
    """What else has to be on the cluster. None where it could not be looked at.

    Attributes:
        policies: `Kind/name` of the admission policies and bindings there are; kinds that the server does not have are not `served`.
        policy_user: controllerUser of the policies' ConfigMap, "" where there is none.
        controller_user: the account that has the controller's rights, "" where nobody says.
        namespaces: those there are.
        claimed_by: the ledger that the cluster says it is run by, "" where none has claimed it.
        claimable: whether the object that says so is there.
        forbidden: what could not be looked at, as phrases.
    """

    policies: frozenset[str] | None = None
    served: frozenset[str] = frozenset()
    policy_user: str | None = None
    controller_user: str = ""
    namespaces: frozenset[str] | None = None
    claimed_by: str | None = None
    claimable: bool = True
    forbidden: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class ClusterSnapshot:
    """A cluster.

    Attributes:
        kube_system_uid: who it is.
        jobs: every labelled Job by uid.
        pods: pods that live, by the uid of their Job; also of Jobs that are gone or not ours.
        at_large: Jobs of open runs, live workloads and actions that are there without the label, by uid.
    """

    kube_system_uid: str
    jobs: Mapping[str, Observation] = field(default_factory=dict)
    pods: Mapping[str, Sequence[LivePod]] = field(default_factory=dict)
    at_large: Mapping[str, Observation] = field(default_factory=dict)
    surroundings: Surroundings = Surroundings()


@dataclass(frozen=True, slots=True)
class LedgerSnapshot:
    """A ledger, and what a new engine makes of it.

    Attributes:
        now: its clock.
        cluster: as registered by the name we were given, None if it is not.
        other_name: the name by which the ledger knows this cluster otherwise, None if it does not.
        known: hot workloads of the cluster with their open runs, by uid.
        past_runs: closed runs that suspended Jobs carry the stamp of, by id.
        newest_run_id: no greater id was given to a run so far.
        held: what open runs hold by SQL, `engine_holds` what the engine counts.
    """

    uid: str
    now: datetime
    leader: Leader
    configuration: Configuration
    cluster: Cluster | None
    other_name: str | None = None
    known: Mapping[str, Known] = field(default_factory=dict)
    actions: Sequence[OpenAction] = ()
    claims: Sequence[ClaimFact] = ()
    rates: Sequence[RateFact] = ()
    past_runs: Mapping[int, PastRun] = field(default_factory=dict)
    newest_run_id: int = 0
    held: Amounts = field(default_factory=dict)
    engine_holds: Amounts = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Look:
    """One look at everything; `cluster` is None where only ledger and engine are looked at."""

    ledger: LedgerSnapshot
    cluster: ClusterSnapshot | None
