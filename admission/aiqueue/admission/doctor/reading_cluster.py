"""Reads a cluster: consistent lists, page by page, and no more of each object than is looked at.

The account may be the controller's, which has few rights, or an administrator's. Without the right to Jobs and pods there is nothing to
compare, and the look fails; what else may not be seen is left out, and said.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from dataclasses import dataclass, field, replace
from typing import TypeVar

from aiqueue.admission.controller import claim
from aiqueue.admission.doctor.objects import ConfigMap, Item, Items, RoleBinding
from aiqueue.admission.doctor.snapshots import ClusterSnapshot, LivePod, Surroundings
from aiqueue.admission.kube import names
from aiqueue.admission.kube.client import MAX_PAGES, METADATA, PAGE, KubeClient
from aiqueue.admission.kube.errors import Forbidden, Gone, NotFound, Unreadable
from aiqueue.admission.kube.jobs import observe
from aiqueue.queue.observations import Observation
from aiqueue.queue.store.known import Known
from aiqueue.queue.words import TERMINAL_STATES

POLICY_CONFIGURATION = "aiqueue-policy"
CONTROLLER_ROLE = "aiqueue-controller"
#: Where the API server has each kind of policy.
POLICY_FOLDERS: Mapping[str, str] = {
    "ValidatingAdmissionPolicy": "validatingadmissionpolicies",
    "ValidatingAdmissionPolicyBinding": "validatingadmissionpolicybindings",
    "MutatingAdmissionPolicy": "mutatingadmissionpolicies",
    "MutatingAdmissionPolicyBinding": "mutatingadmissionpolicybindings",
}
_PODS = "/api/v1/pods"
_ALIVE = "status.phase!=Succeeded,status.phase!=Failed"
_TRIES = 3  # a list whose continuation got too old is begun again
_ASKED_ONE_BY_ONE = 50
_PLACED = 100  # Jobs whose pods are asked for their nodes

Step = Callable[[str], None]
T = TypeVar("T")


@dataclass(slots=True)
class ClusterReader:
    """Looks at one cluster. `step` hears what is being read."""

    client: KubeClient
    cluster_name: str
    step: Step = field(default=lambda _text: None)

    def lists(self) -> ClusterSnapshot:
        """All labelled Jobs, all pods of Jobs that live, and what surrounds them.

        Raises:
            KubeError: it cannot be read.
        """
        uid = self.client.namespace_uid("kube-system")
        return ClusterSnapshot(uid, self._jobs(names.QUEUE_LABEL), self._pods(), surroundings=self._surroundings())

    def asked(self, snapshot: ClusterSnapshot, known: Mapping[str, Known], awaiting: Collection[str] = ()) -> ClusterSnapshot:
        """The same with what the ledger asks for: Jobs that went without a label, and where pods are whose Job does not run.

        `awaiting` are uids of Jobs for which something is still to be done, also where they were taken out of our hands.

        Raises:
            KubeError: it cannot be read.
        """
        missing = [
            row
            for row in known.values()
            if row.uid not in snapshot.jobs and (row.run is not None or row.state not in TERMINAL_STATES or row.uid in awaiting)
        ]
        at_large = self._at_large(missing)
        idle: dict[str, str] = {}
        for uid in snapshot.pods.keys() & (known.keys() | snapshot.jobs.keys()):
            seen = snapshot.jobs.get(uid) or at_large.get(uid)
            if seen is None or not seen.running:
                idle[uid] = seen.namespace if seen is not None else known[uid].namespace
        pods = dict(snapshot.pods)
        for uid in sorted(idle)[:_PLACED]:
            self.step(f"where pods of {idle[uid]} are")
            nodes = {pod.metadata.name: pod.spec.node_name for pod in self.client.pods_of(uid, idle[uid])}
            pods[uid] = tuple(replace(pod, node=nodes.get(pod.name, "")) for pod in pods[uid])
        return replace(snapshot, at_large=at_large, pods=pods)

    def _at_large(self, missing: list[Known]) -> dict[str, Observation]:
        if len(missing) > _ASKED_ONE_BY_ONE:
            unlabelled = self._jobs(f"!{names.QUEUE_LABEL}")
            return {row.uid: unlabelled[row.uid] for row in missing if row.uid in unlabelled}
        found: dict[str, Observation] = {}
        for row in missing:
            self.step(f"Job {row.namespace}/{row.name}")
            job = self.client.get_job(row.namespace, row.name)
            if job is not None and job.metadata.uid == row.uid:
                found[row.uid] = observe(job, cluster=self.cluster_name)
        return found

    def _jobs(self, selector: str) -> dict[str, Observation]:
        return self._whole(lambda: self._all_jobs(selector), "list of Jobs")

    def _all_jobs(self, selector: str) -> dict[str, Observation]:
        found: dict[str, Observation] = {}
        token = ""
        for _ in range(MAX_PAGES):
            page = self.client.list_jobs(selector, continue_token=token)
            for job in page.jobs:
                found[job.metadata.uid] = observe(job, cluster=self.cluster_name)
            self.step(f"{len(found)} Jobs")
            token = page.metadata.continue_
            if not token:
                return found
        raise Unreadable(f"the list has more than {MAX_PAGES} pages", doing="list of Jobs")

    def _pods(self) -> dict[str, tuple[LivePod, ...]]:
        query = {"labelSelector": names.CONTROLLER_UID_LABEL, "fieldSelector": _ALIVE}
        found: dict[str, list[LivePod]] = {}
        for item in self._items(_PODS, "list of pods", query):
            metadata = item.metadata
            uid = (metadata.labels or {}).get(names.CONTROLLER_UID_LABEL, "")
            found.setdefault(uid, []).append(LivePod(metadata.namespace, metadata.name, metadata.deletion_timestamp))
        return {uid: tuple(sorted(pods, key=lambda pod: pod.name)) for uid, pods in found.items()}

    def _items(self, path: str, doing: str, query: Mapping[str, str] | None = None) -> list[Item]:
        """Metadata of all objects of a kind."""
        return self._whole(lambda: self._all_items(path, doing, query or {}), doing)

    def _all_items(self, path: str, doing: str, query: Mapping[str, str]) -> list[Item]:
        asked = {**query, "limit": str(PAGE)}
        found: list[Item] = []
        for _ in range(MAX_PAGES):
            page = self.client.read(path, Items, doing, query=asked, accept=METADATA)
            found += page.items or ()
            self.step(f"{doing}: {len(found)}")
            if not page.metadata.continue_:
                return found
            asked["continue"] = page.metadata.continue_
        raise Unreadable(f"the list has more than {MAX_PAGES} pages", doing=doing)

    @staticmethod
    def _whole(read: Callable[[], T], doing: str) -> T:
        """What a list comes to that is begun again where it became too old while it was read."""
        for _ in range(_TRIES):
            try:
                return read()
            except Gone:
                continue
        raise Unreadable(f"the list became too old {_TRIES} times while it was read", doing=doing)

    def _surroundings(self) -> Surroundings:
        forbidden: list[str] = []
        served: dict[str, set[str]] = {}
        try:
            served = {kind: found for kind in POLICY_FOLDERS if (found := self._policies(kind)) is not None}
        except Forbidden:
            forbidden.append("admission policies")
        user = self._unless_forbidden(
            self._policy_user, f"ConfigMap {names.SYSTEM_NAMESPACE}/{POLICY_CONFIGURATION}", forbidden
        )
        held = self._unless_forbidden(self._claim, f"ConfigMap {names.SYSTEM_NAMESPACE}/{names.CLAIM}", forbidden)
        spaces = self._unless_forbidden(
            lambda: self._items("/api/v1/namespaces", "list of namespaces"), "namespaces", forbidden
        )
        return Surroundings(
            policies=frozenset().union(*served.values()) if "admission policies" not in forbidden else None,
            served=frozenset(served),
            policy_user=user,
            controller_user=self._controller_user(),
            namespaces=None if spaces is None else frozenset(item.metadata.name for item in spaces),
            claimed_by=None if held is None else held[1],
            claimable=held is None or held[0],
            forbidden=tuple(forbidden),
        )

    @staticmethod
    def _unless_forbidden(read: Callable[[], T], what: str, forbidden: list[str]) -> T | None:
        try:
            return read()
        except Forbidden:
            forbidden.append(what)
            return None

    def _policies(self, kind: str) -> set[str] | None:
        """`Kind/name` of those there are, None where this version of Kubernetes does not have the kind."""
        folder = POLICY_FOLDERS[kind]
        try:
            found = self._items(f"/apis/admissionregistration.k8s.io/v1/{folder}", f"list of {folder}")
        except NotFound:
            return None
        return {f"{kind}/{item.metadata.name}" for item in found}

    def _claim(self) -> tuple[bool, str]:
        """Whether the object that says which ledger runs the cluster is there, and what it says."""
        try:
            return True, claim.read(self.client).ledger
        except NotFound:
            return False, ""

    def _policy_user(self) -> str:
        """Whom the policies' parameters name as the controller, "" where there is none."""
        path = f"/api/v1/namespaces/{names.SYSTEM_NAMESPACE}/configmaps/{POLICY_CONFIGURATION}"
        try:
            found = self.client.read(path, ConfigMap, f"get of ConfigMap {names.SYSTEM_NAMESPACE}/{POLICY_CONFIGURATION}")
        except NotFound:
            return ""
        return (found.data or {}).get("controllerUser", "")

    def _controller_user(self) -> str:
        """Who has the controller's rights, "" where that cannot be told."""
        path = f"/apis/rbac.authorization.k8s.io/v1/clusterrolebindings/{CONTROLLER_ROLE}"
        try:
            subjects = self.client.read(path, RoleBinding, f"get of ClusterRoleBinding {CONTROLLER_ROLE}").subjects or ()
        except (Forbidden, NotFound):
            return ""
        if len(subjects) != 1:
            return ""
        (only,) = subjects
        return f"system:serviceaccount:{only.namespace}:{only.name}" if only.kind == "ServiceAccount" else only.name
