"""Requests to one API server over the official client's transport.

The official client brings what is hard to get right: kubeconfig, service accounts whose token rotates, TLS, proxies. Its
models are not used: bodies are decoded straight into `objects`. urllib3 reads each response whole and gives the connection
back before a method returns, so connections are reused; a watch has one of its own.

Nothing is retried here. Reads may be repeated freely, and so may patches, which name a resourceVersion.
"""

from __future__ import annotations

import importlib.metadata
import re
from collections.abc import Callable, Mapping
from http import HTTPStatus
from pathlib import Path
from random import Random
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import quote, urlencode

import msgspec
import urllib3

from aiqueue.admission.kube import access, deadlines, errors, kinds, names, objects
from aiqueue.admission.kube.access import Access
from aiqueue.admission.kube.answers import Answer, no_answer, require_about
from aiqueue.admission.kube.kinds import Kind, Listed
from aiqueue.admission.kube.respite import Respite
from aiqueue.admission.kube.watches import Watch

if TYPE_CHECKING:
    from kubernetes import client as official

CONNECT_TIMEOUT_SECONDS = 5.0
READ_TIMEOUT_SECONDS = 30.0
WATCH_MARGIN_SECONDS = 15.0  # a watch that stays silent this much longer than it was to last is dead
PAGE = 500
MAX_PAGES = 10_000  # bound of a loop that the server ends

JOBS = "/apis/batch/v1/jobs"
JSON = "application/json"
#: Of each object of a list only its metadata.
METADATA = "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1"
MERGE_PATCH = "application/merge-patch+json"
JSON_PATCH = "application/json-patch+json"
#: The query of every write.
WRITING = {"fieldManager": names.FIELD_MANAGER, "fieldValidation": "Strict"}

T = TypeVar("T", bound=objects.Object)
_jobs = msgspec.json.Decoder(objects.JobList)
_job = msgspec.json.Decoder(objects.Job)
_pods = msgspec.json.Decoder(objects.PodList)
_namespace = msgspec.json.Decoder(objects.Namespace)
_version = msgspec.json.Decoder(objects.ServerVersion)


def user_agent(component: str = "controller") -> str:
    """How the API server's logs and audit name a part of aiqueue."""
    return f"aiqueue-{component}/{importlib.metadata.version('aiqueue')}"


class KubeClient:
    """A connection pool to one API server. Safe for use by many threads.

    Args:
        configuration: of the official client.
        connections: kept at most.
        component: the part of aiqueue that asks, see `user_agent`.
    """

    def __init__(self, configuration: official.Configuration, *, connections: int = 16, component: str = "controller") -> None:
        self.access = Access(configuration, connections)
        self._pool = self.access.pool
        self._host = self.access.host
        self._agent = user_agent(component)
        #: How the server answers what reads and what writes.
        self.reading, self.writing = Respite(Random()), Respite(Random())
        #: Called in the thread that asks whenever it begins a request, which is over within `deadlines.REQUEST_SECONDS`.
        self.progress: Callable[[], object] = lambda: None

    @classmethod
    def from_kubeconfig(
        cls, path: str | Path, *, context: str | None = None, connections: int = 16, component: str = "controller"
    ) -> KubeClient:
        """Connect as a kubeconfig file says.

        Raises:
            UnusableCredentials: the file is missing, is no kubeconfig, names credentials that cannot be read, or would have
                us talk to a server that does not prove who it is.
        """
        return cls(access.of_kubeconfig(path, context), connections=connections, component=component)

    @classmethod
    def in_cluster(cls, *, connections: int = 16, component: str = "controller") -> KubeClient:
        """Connect as the service account of the pod we run in; its token is read again as it rotates.

        Raises:
            UnusableCredentials: this is no pod, or its service account's token is not mounted.
        """
        return cls(access.of_pod(), connections=connections, component=component)

    @property
    def host(self) -> str:
        """URL of the API server."""
        return self._host

    def resting(self) -> float:
        """For how many seconds nothing should be begun, since the server does not answer well; 0 where it does."""
        return max(self.reading.seconds(), self.writing.seconds())

    def problems(self) -> list[str]:
        """What the server does not do well, in sentences."""
        told = (
            ("does not answer what it is asked", self.reading.problem()),
            ("carries out no change", self.writing.problem()),
        )
        return [f"the API server {what} ({problem})" for what, problem in told if problem is not None]

    def connections_opened(self) -> int:
        """Connections made so far, watches included."""
        pool: Any = self._pool.connection_from_url(self._host)
        return int(pool.num_connections)

    def close(self) -> None:
        """Close idle connections. Watches are closed one by one."""
        self._pool.clear()

    # Jobs

    def list_jobs(
        self,
        label_selector: str = names.QUEUE_LABEL,
        *,
        limit: int = PAGE,
        continue_token: str = "",
        resource_version: str | None = None,
    ) -> objects.JobList:
        """One page of Jobs of all namespaces. Without a resourceVersion it is consistent: as new as anything seen so far.

        Raises:
            KubeError: `Gone` where the continue token is too old.
        """
        query = {"labelSelector": label_selector, "limit": str(limit)}
        if continue_token:
            query["continue"] = continue_token
        if resource_version is not None:
            query["resourceVersion"] = resource_version
        return self._get(JOBS, query, _jobs, "list of Jobs")

    def watch_jobs(
        self, label_selector: str = names.QUEUE_LABEL, *, resource_version: str, timeout_seconds: int = 300
    ) -> Watch:
        """Watch Jobs, as `watch`.

        Raises:
            KubeError: as `watch`.
        """
        return self.watch(kinds.JOBS, label_selector, resource_version=resource_version, timeout_seconds=timeout_seconds)

    def page(self, kind: Kind, label_selector: str = "", *, limit: int = PAGE, continue_token: str = "") -> Listed:
        """One page of a kind in all namespaces, consistent.

        Raises:
            KubeError: `Gone` where the continue token is too old.
        """
        query = {"limit": str(limit), **({"labelSelector": label_selector} if label_selector else {})}
        if continue_token:
            query["continue"] = continue_token
        found: Listed = self._get(kind.path, query, kind.page, f"list of {kind.name}")
        return found

    def watch(self, kind: Kind, label_selector: str = "", *, resource_version: str, timeout_seconds: int = 300) -> Watch:
        """Watch a kind in all namespaces from `resource_version` on; bookmarks included.

        The server ends the watch after `timeout_seconds`. The caller iterates over the result and closes it.

        Raises:
            KubeError: the watch could not be started; `Gone` where the resourceVersion is too old.
        """
        query = {
            **({"labelSelector": label_selector} if label_selector else {}),
            "watch": "true",
            "allowWatchBookmarks": "true",
            "resourceVersion": resource_version,
            "timeoutSeconds": str(timeout_seconds),
        }
        answer = self._send("GET", kind.path, query, f"watch of {kind.name}")
        if answer.refused:
            raise answer.failure()
        answer.respite.well()
        lasts_seconds = timeout_seconds + WATCH_MARGIN_SECONDS
        answer.deadline.move(lasts_seconds, lasts_seconds)
        return Watch(answer.response, lasts_seconds=lasts_seconds, kind=kind)

    def get_job(self, namespace: str, name: str) -> objects.Job | None:
        """The Job as it is now, None where there is none of this name.

        Raises:
            KubeError: there is no telling.
        """
        try:
            return self._get(job_path(namespace, name), {}, _job, f"get of Job {namespace}/{name}")
        except errors.NotFound as error:
            require_about(error, namespace, name)
            return None

    def patch_job(self, namespace: str, name: str, body: Mapping[str, Any]) -> objects.Job:
        """Apply a JSON merge patch and return the Job as it then is.

        Raises:
            KubeError: `Conflict` where the uid or resourceVersion named in the patch is not the Job's; `NotFound`,
                `Invalid`, `Forbidden` (a policy, perhaps). After `Unavailable` the patch may have been applied or not.
        """
        return self._patch_job(namespace, name, "", body, f"patch of Job {namespace}/{name}")

    def patch_job_status(self, namespace: str, name: str, body: Mapping[str, Any]) -> objects.Job:
        """Apply a JSON merge patch to the status of a Job; nothing else that is in the patch has an effect.

        Raises:
            KubeError: as `patch_job`; `Forbidden` where the account may not, which only servers before 1.36 ask for.
        """
        return self._patch_job(namespace, name, "/status", body, f"patch of the status of Job {namespace}/{name}")

    def _patch_job(self, namespace: str, name: str, part: str, body: Mapping[str, Any], doing: str) -> objects.Job:
        try:
            return self._write("PATCH", f"{job_path(namespace, name)}{part}", body, _job, doing)
        except errors.NotFound as error:
            require_about(error, namespace, name)
            raise

    # Other objects

    def pods_of(self, controller_uid: str, namespace: str) -> list[objects.Pod]:
        """All pods that carry a Job's uid as their controller's, in a consistent list; finished ones included.

        Raises:
            KubeError: there is no telling.
        """
        query = {"labelSelector": f"{names.CONTROLLER_UID_LABEL}={controller_uid}", "limit": str(PAGE)}
        path = f"/api/v1/namespaces/{path_segment(namespace)}/pods"
        doing = f"list of the pods of Job uid {controller_uid} in {namespace}"
        pods: list[objects.Pod] = []
        for _ in range(MAX_PAGES):
            page = self._get(path, query, _pods, doing)
            pods.extend(page.pods)
            if not page.metadata.continue_:
                return pods
            query["continue"] = page.metadata.continue_
        raise errors.Unreadable(f"the list has more than {MAX_PAGES} pages", doing=doing)

    def namespace_uid(self, name: str) -> str:
        """The uid of a namespace; that of kube-system tells one cluster from another.

        Raises:
            KubeError: `NotFound` where there is no such namespace.
        """
        return self._get(f"/api/v1/namespaces/{path_segment(name)}", {}, _namespace, f"get of namespace {name}").metadata.uid

    def server_version(self) -> tuple[int, int]:
        """Major and minor version of the API server, such as (1, 36).

        Raises:
            KubeError: the server does not say.
        """
        version = self._get("/version", {}, _version, "get of the server's version")
        # Some providers write the minor version as "36+".
        parts = [re.match(r"[0-9]{1,6}", text, re.ASCII) for text in (version.major, version.minor)]
        if parts[0] is None or parts[1] is None:
            raise errors.Unreadable(f"{version.git_version!r} is no version", doing="get of the server's version")
        return int(parts[0][0]), int(parts[1][0])

    # Any object: `kind` is the struct of the fields that the caller reads

    def read(self, path: str, kind: type[T], doing: str, *, query: Mapping[str, str] | None = None, accept: str = JSON) -> T:
        """GET one object or list; `doing` says for errors what was tried, `accept` may ask for less than the whole.

        Raises:
            KubeError: `NotFound` where there is none.
        """
        answer = self._send("GET", path, query or {}, doing, accept=accept)
        return answer.decoded(msgspec.json.Decoder(kind))

    def patch(
        self,
        path: str,
        body: object,
        kind: type[T],
        doing: str,
        *,
        content_type: str = MERGE_PATCH,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> T:
        """PATCH one object and return it as it then is. The patch names the resourceVersion it was decided on.

        Raises:
            KubeError: `Conflict` where the object is at another resourceVersion; otherwise as `patch_job`.
        """
        decoder = msgspec.json.Decoder(kind)
        return self._write("PATCH", path, body, decoder, doing, content_type=content_type, timeout_seconds=timeout_seconds)

    def create(self, path: str, body: object, kind: type[T], doing: str, *, timeout_seconds: float = READ_TIMEOUT_SECONDS) -> T:
        """POST one object to the `path` of its kind and return it as stored.

        Raises:
            KubeError: `Conflict` where there is one of its name; after `Unavailable` it may be there or not.
        """
        decoder = msgspec.json.Decoder(kind)
        return self._write("POST", path, body, decoder, doing, content_type=JSON, timeout_seconds=timeout_seconds)

    # Transport

    def headers(self, content_type: str | None = None, accept: str = JSON) -> dict[str, str]:
        """What every request says of us and what it carries.

        Raises:
            UnusableCredentials: they cannot be renewed.
        """
        found = {"Accept": accept, "User-Agent": self._agent, **self.access.authorization()}
        return found if content_type is None else {**found, "Content-Type": content_type}

    def _write(
        self,
        method: str,
        path: str,
        body: object,
        decoder: msgspec.json.Decoder[T],
        doing: str,
        *,
        content_type: str = MERGE_PATCH,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
    ) -> T:
        encoded = msgspec.json.encode(body)
        answer = self._send(
            method, path, WRITING, doing, body=encoded, content_type=content_type, timeout_seconds=timeout_seconds
        )
        return answer.decoded(decoder)

    def _get(self, path: str, query: Mapping[str, str], decoder: msgspec.json.Decoder[T], doing: str) -> T:
        return self._send("GET", path, query, doing).decoded(decoder)

    def _send(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        doing: str,
        *,
        body: bytes | None = None,
        content_type: str | None = None,
        timeout_seconds: float = READ_TIMEOUT_SECONDS,
        accept: str = JSON,
    ) -> Answer:
        url = f"{self._host}{path}?{urlencode(query)}" if query else f"{self._host}{path}"
        respite = self.reading if method == "GET" else self.writing
        self.progress()
        try:
            with deadlines.within(deadlines.REQUEST_SECONDS, timeout_seconds) as deadline:
                response = self._pool.request(
                    method,
                    url,
                    headers=self.headers(content_type, accept),
                    body=body,
                    timeout=urllib3.Timeout(connect=CONNECT_TIMEOUT_SECONDS, read=timeout_seconds),
                    retries=False,
                    redirect=False,
                    preload_content=False,
                )
        except (urllib3.exceptions.HTTPError, OSError) as error:
            raise no_answer(respite, f"no answer from {self._host}: {deadline.why(error)}", doing) from error
        if response.status == HTTPStatus.UNAUTHORIZED:
            self.access.refused()
        return Answer(response, respite, doing, deadline)


def job_path(namespace: str, name: str) -> str:
    """Where the API server has a Job."""
    return f"/apis/batch/v1/namespaces/{path_segment(namespace)}/jobs/{path_segment(name)}"


def path_segment(text: str) -> str:
    """A name as one part of a path."""
    return quote(text, safe="")
