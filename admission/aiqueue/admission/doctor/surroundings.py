"""Whether ledger and cluster belong together, somebody leads, and what else has to be on the cluster is there."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from aiqueue.admission.doctor.differences import Difference, Mend, counted, named
from aiqueue.admission.doctor.kinds import Kind, Severity
from aiqueue.admission.doctor.snapshots import ClusterSnapshot, LedgerSnapshot, Surroundings
from aiqueue.admission.kube import names


def belonging(ledger: LedgerSnapshot, cluster: ClusterSnapshot, cluster_name: str) -> Difference | None:
    """Why Jobs and ledger cannot be compared, None where they can."""
    known, uid = ledger.cluster, cluster.kube_system_uid
    about = f"cluster/{cluster_name}"
    if known is not None and known.kube_system_uid != uid:
        what = f"the ledger knows it by kube-system UID {known.kube_system_uid}, and the cluster has {uid}"
        repair = (
            "point AIQUEUE_DATABASE_URL and AIQUEUE_KUBECONFIG to what belongs together; a rebuilt cluster needs a new name in"
            " AIQUEUE_CLUSTER_NAME"
        )
    elif known is None and ledger.other_name is not None:
        what = f"the ledger knows this cluster as {ledger.other_name}"
        repair = f"set AIQUEUE_CLUSTER_NAME={ledger.other_name}"
    elif known is None:
        return Difference(
            Kind.CLUSTER_UNKNOWN,
            Severity.INFORMATION,
            about,
            "the ledger does not know this cluster",
            "no controller has led it yet",
            "start a controller: it registers the cluster",
        )
    else:
        return None
    return Difference(
        Kind.CLUSTER_DIFFERS,
        Severity.ERROR,
        about,
        what,
        "one of the two addresses is wrong, or the cluster was rebuilt",
        repair,
    )


def older(ledger: LedgerSnapshot, cluster: ClusterSnapshot) -> Iterator[Difference]:
    """Whether Jobs that are not over carry runs that the ledger has not given out yet, for which no controller starts."""
    ahead = {
        f"{seen.namespace}/{seen.name}": seen.stamp.run_id
        for seen in cluster.jobs.values()
        if seen.stamp is not None and seen.forgotten_by(ledger.uid, ledger.newest_run_id)
    }
    if ahead:
        yield Difference(
            Kind.LEDGER_OLDER,
            Severity.ERROR,
            f"ledger/{ledger.uid}",
            f"{counted(len(ahead), 'Job')} ({named(ahead)}) carry runs up to {max(ahead.values())}, and this ledger gave out none"
            f" after {ledger.newest_run_id}",
            "the ledger was restored from a backup that is older than these runs",
            "ids of runs are moved past these; a controller that leads then adopts the Jobs that run",
            Mend.MOVE_RUN_IDS,
            row=max(ahead.values()),
        )


def leading(ledger: LedgerSnapshot) -> Iterator[Difference]:
    """Whether somebody leads."""
    leader = ledger.leader
    if leader.expired:
        last = f"the last was {leader.holder}, until {leader.expires_at.isoformat()}" if leader.term else "none ever did"
        yield Difference(
            Kind.NOBODY_LEADS,
            Severity.WARNING,
            f"term/{leader.term}",
            f"no controller leads this ledger: {last}",
            "no controller runs, or none gets through to Postgres or to the API server",
            "start a controller, or see its log and /readyz",
        )


def schema(sentence: str) -> Difference:
    """The database is not at the newest migration, as a sentence says; nothing else of it can be looked at."""
    return Difference(
        Kind.SCHEMA_DIFFERS,
        Severity.ERROR,
        "ledger/schema",
        sentence,
        "the program was updated and the database was not, or the other way round",
        "do what the sentence says, then ask again",
    )


def _claim(ledger: LedgerSnapshot, there: Surroundings) -> Iterator[Difference]:
    about = f"ConfigMap/{names.SYSTEM_NAMESPACE}/{names.CLAIM}"
    if not there.claimable:
        yield Difference(
            Kind.CLUSTER_UNCLAIMED,
            Severity.ERROR,
            about,
            "it does not exist, so the cluster cannot say which ledger runs it, and no controller leads",
            "it was deleted, or the manifests were applied in part",
            "apply the manifests of this version again",
        )
    elif there.claimed_by not in (None, "", ledger.uid):
        yield Difference(
            Kind.CLUSTER_OF_ANOTHER,
            Severity.ERROR,
            about,
            f"it says that ledger {there.claimed_by} runs this cluster, and this ledger is {ledger.uid}",
            "AIQUEUE_DATABASE_URL names another ledger than the cluster's, or the cluster was not handed over to it",
            f"point AIQUEUE_DATABASE_URL to ledger {there.claimed_by}; or hand the cluster over, as a controller says that is refused",
        )


def around(ledger: LedgerSnapshot, there: Surroundings, policies: Sequence[str]) -> Iterator[Difference]:
    """What else is missing or wrong on the cluster.

    Args:
        ledger: for the queues.
        there: what was seen.
        policies: `Kind/name` of what has to be there, as far as the server has the kind.
    """
    if there.policies is not None:
        for policy in policies:
            kind, _, _ = policy.partition("/")
            if kind in there.served and policy not in there.policies:
                yield Difference(
                    Kind.POLICY_MISSING,
                    Severity.ERROR,
                    policy,
                    "it is not on the cluster, so nobody keeps its rules",
                    "it was deleted, or the manifests were applied in part",
                    "apply the manifests of this version again",
                )
    yield from _claim(ledger, there)
    user = there.policy_user
    if user == "" or (user is not None and there.controller_user and user != there.controller_user):
        what = f"it names {user} as the controller, whose account is {there.controller_user}" if user else "it does not exist"
        yield Difference(
            Kind.CONTROLLER_USER_DIFFERS,
            Severity.ERROR,
            "ConfigMap/aiqueue-system/aiqueue-policy",
            f"{what}: the policies refuse to let the controller start any Job",
            "the controller was given another account, or the manifests were applied in part",
            "write the controller's account to its key controllerUser, or apply the manifests again",
        )
    if there.namespaces is not None:
        for namespace, name in sorted(ledger.configuration.queues):
            if namespace not in there.namespaces:
                yield Difference(
                    Kind.QUEUE_WITHOUT_NAMESPACE,
                    Severity.WARNING,
                    f"queue/{namespace}/{name}",
                    f"there is no namespace {namespace} on the cluster, so no Job can come through it",
                    "the namespace was deleted, or its name is misspelt",
                    "create the namespace, or delete the queue: aiqueue delete queue",
                )
    for what in there.forbidden:
        yield Difference(
            Kind.NOT_LOOKED_AT,
            Severity.INFORMATION,
            what,
            "this account has no right to look at it",
            "the controller's own account sees only what it needs",
            "use the kubeconfig of a cluster administrator to have it looked at",
        )
