"""Pods over time, by a watch of our own: when each was first seen, ended and gone."""

from __future__ import annotations

import json
import ssl
import threading
from collections.abc import Iterable, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from http import HTTPStatus
from http.client import HTTPException, HTTPSConnection
from socket import SHUT_RDWR
from typing import Any

from aiqueue.cli.harness.api import Api
from aiqueue.cli.harness.cluster import DevCluster
from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.ports import LOOPBACK

JOB_UID = "batch.kubernetes.io/controller-uid"
_SELECTOR = "labelSelector=batch.kubernetes.io%2Fcontroller-uid"
_WATCH_SECONDS = 300
_AGAIN_SECONDS = 0.2


@dataclass(slots=True)
class PodLife:
    """One pod. Times are when the watch told, by this machine's clock, which is the ledger's too.

    One that had ended when a broken watch was opened anew counts as ended when it broke: no later than that is known.
    """

    name: str
    job_uid: str
    seen_at: datetime
    ended_at: datetime | None = None


def alive(pod: Mapping[str, Any]) -> bool:
    """Whether its containers may run: one that is going counts until it has ended."""
    return pod["status"].get("phase") not in ("Succeeded", "Failed")


class PodWatch:
    """Watches the pods of Jobs in some namespaces, in a thread."""

    def __init__(self, cluster: DevCluster, namespaces: Iterable[str]) -> None:
        self._api: Api = cluster.api
        self._port = int(cluster.server.rpartition(":")[2])
        self._context = ssl.create_default_context(cafile=str(cluster.ca_file))
        pki = cluster.folder / "pki"
        self._context.load_cert_chain(pki / "admin.crt", pki / "admin.key")
        self._namespaces = frozenset(namespaces)
        self._lives: dict[str, PodLife] = {}
        self._lock = threading.Lock()
        self._stopping = threading.Event()
        self._connection: HTTPSConnection | None = None
        self._thread = threading.Thread(target=self._run, name="pod-watch", daemon=True)

    def __enter__(self) -> PodWatch:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self._stopping.set()
        connection = self._connection
        if connection is not None and connection.sock is not None:
            with suppress(OSError):  # it may have ended by itself
                connection.sock.shutdown(SHUT_RDWR)
        self._thread.join(10)

    def lives(self) -> list[PodLife]:
        """All pods that ever were."""
        with self._lock:
            return list(self._lives.values())

    def _run(self) -> None:
        blind_since = datetime.now(UTC)
        while not self._stopping.is_set():
            try:
                version = self._list(blind_since)
            except (OSError, ValueError, HarnessError):
                self._stopping.wait(_AGAIN_SECONDS)
                continue
            with suppress(OSError, HTTPException, ValueError):
                self._follow(version)
            blind_since = datetime.now(UTC)

    def _list(self, blind_since: datetime) -> str:
        listed = self._api.call("GET", f"/api/v1/pods?{_SELECTOR}")
        now = datetime.now(UTC)
        with self._lock:
            gone = self._lives.keys() - {each["metadata"]["uid"] for each in listed["items"]}
            for uid in gone:
                self._lives[uid].ended_at = self._lives[uid].ended_at or blind_since
        for each in listed["items"]:
            self._see(each, now if alive(each) else blind_since)
        return str(listed["metadata"]["resourceVersion"])

    def _follow(self, version: str) -> None:
        path = f"/api/v1/pods?watch=1&{_SELECTOR}&resourceVersion={version}&timeoutSeconds={_WATCH_SECONDS}"
        self._connection = HTTPSConnection(LOOPBACK, self._port, context=self._context, timeout=_WATCH_SECONDS + 10)
        try:
            self._connection.request("GET", path, headers={"Accept": "application/json"})
            answer = self._connection.getresponse()
            if answer.status != HTTPStatus.OK:
                self._stopping.wait(_AGAIN_SECONDS)
                return
            while not self._stopping.is_set() and (line := answer.readline()):
                now = datetime.now(UTC)
                event = json.loads(line)
                if event["type"] == "ERROR":
                    return
                self._see(event["object"], now, gone=event["type"] == "DELETED")
        finally:
            self._connection.close()

    def _see(self, pod: Mapping[str, Any], now: datetime, *, gone: bool = False) -> None:
        metadata = pod["metadata"]
        if metadata["namespace"] not in self._namespaces:
            return
        with self._lock:
            life = self._lives.get(metadata["uid"])
            if life is None:
                life = self._lives[metadata["uid"]] = PodLife(metadata["name"], metadata["labels"].get(JOB_UID, ""), now)
            if life.ended_at is None and (gone or not alive(pod)):
                life.ended_at = now
