"""Sends requests to the API server and measures, in a process of its own: an order as JSON on stdin, an outcome on stdout.

Two clients: `aiohttp`, so many connections in one event loop, and `ours`, the client of aiqueue's controller with so many threads.
"""

from __future__ import annotations

import asyncio
import gc
import json
import ssl
import subprocess
import sys
import tempfile
from collections import deque
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict, dataclass, field
from pathlib import Path
from time import perf_counter, process_time
from typing import Any, Literal
from urllib.parse import urlsplit

import aiohttp
import msgspec

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.ports import LOOPBACK

MERGE_PATCH = "application/merge-patch+json"
MOST_SECONDS = 600.0
ANSWER_SECONDS = 30.0

#: Method, path, body.
Request = tuple[str, str, Any]


@dataclass(frozen=True, slots=True)
class Order:
    """What to send, as fast as the connections allow.

    Attributes:
        port: of the API server, on loopback.
        ca_file: who signed its certificate.
        token: to show.
        requests: each is sent once; any order.
        connections: in use at once.
        client: which of the two sends.
        status: expected of every answer.
        keep: return uid and resourceVersion of every answer.
    """

    port: int
    ca_file: str
    token: str
    requests: Sequence[Request]
    connections: int = 64
    client: Literal["aiohttp", "ours"] = "aiohttp"
    status: int = 200
    keep: bool = False


@dataclass(frozen=True, slots=True)
class Outcome:
    """What came of an order. `kept` is (uid, resourceVersion) of each answer, in the order of the requests, if asked for."""

    seconds: float
    cpu_seconds: float
    latencies_ms: Sequence[float]
    kept: Sequence[tuple[str, str]] = field(default_factory=list)


class _Metadata(msgspec.Struct, rename="camel"):
    uid: str
    resource_version: str


class _Object(msgspec.Struct):
    metadata: _Metadata


_decoder = msgspec.json.Decoder(_Object)


def send(order: Order) -> Outcome:
    """Carry out an order in a fresh process.

    Raises:
        HarnessError: an answer was not as expected, or did not come.
    """
    with tempfile.TemporaryFile() as source:
        source.write(msgspec.json.encode(asdict(order)))
        source.seek(0)
        try:
            done = subprocess.run(
                [sys.executable, "-I", str(Path(__file__))],
                stdin=source,
                capture_output=True,
                check=False,
                timeout=MOST_SECONDS,
            )
        except subprocess.TimeoutExpired as error:
            raise HarnessError(f"the client did not end within {error.timeout:g} s") from error
    if done.returncode != 0:
        raise HarnessError(f"the client failed: {done.stderr.decode(errors='replace').strip()[-1000:]}")
    return msgspec.json.decode(done.stdout, type=Outcome)


def connector(ca_file: str, connections: int) -> aiohttp.TCPConnector:
    """Connections that verify the API server, and trust nobody else."""
    return aiohttp.TCPConnector(limit=connections, ssl=ssl.create_default_context(cafile=ca_file))


def headers(token: str) -> dict[str, str]:
    """What every request shows."""
    return {"Authorization": f"Bearer {token}", "Accept": "application/json"}


async def _by_aiohttp(order: Order) -> Outcome:
    requests = [
        (place, method, path, msgspec.json.encode(body), MERGE_PATCH if method == "PATCH" else "application/json")
        for place, (method, path, body) in enumerate(order.requests)
    ]
    left = deque(requests)
    latencies = [0.0] * len(requests)
    kept = [("", "")] * len(requests)
    base = f"https://{LOOPBACK}:{order.port}"
    timeout = aiohttp.ClientTimeout(total=ANSWER_SECONDS)
    async with aiohttp.ClientSession(
        base, connector=connector(order.ca_file, order.connections), headers=headers(order.token), timeout=timeout
    ) as session:

        async def work() -> None:
            while left:
                place, method, path, body, content_type = left.popleft()
                began = perf_counter()
                async with session.request(method, path, data=body, headers={"Content-Type": content_type}) as answer:
                    content = await answer.read()
                    if answer.status != order.status:
                        raise HarnessError(f"{method} {path} was answered {answer.status}: {content[:500]!r}")
                latencies[place] = (perf_counter() - began) * 1000
                if order.keep:
                    found = _decoder.decode(content).metadata
                    kept[place] = (found.uid, found.resource_version)

        gc.collect()
        gc.freeze()
        began, cpu = perf_counter(), process_time()
        await asyncio.gather(*(work() for _ in range(order.connections)))
        return Outcome(perf_counter() - began, process_time() - cpu, latencies, kept if order.keep else [])


def _by_ours(order: Order) -> Outcome:
    # Imported here, since the other client is to be alone in its process.
    from kubernetes import client as official

    from aiqueue.admission.kube.client import KubeClient

    configuration = official.Configuration()
    configuration.host = f"https://{LOOPBACK}:{order.port}"
    configuration.ssl_ca_cert = order.ca_file
    configuration.api_key = {"BearerToken": order.token}
    configuration.api_key_prefix = {"BearerToken": "Bearer"}
    client = KubeClient(configuration, connections=order.connections)
    jobs = [(*_names(path), body) for _method, path, body in order.requests]

    def patch(job: tuple[str, str, Any]) -> float:
        began = perf_counter()
        client.patch_job(*job)
        return (perf_counter() - began) * 1000

    with ThreadPoolExecutor(order.connections) as pool:
        gc.collect()
        gc.freeze()
        began, cpu = perf_counter(), process_time()
        latencies = list(pool.map(patch, jobs))
        return Outcome(perf_counter() - began, process_time() - cpu, latencies)


def _names(path: str) -> tuple[str, str]:
    """Namespace and name of the Job at a path."""
    parts = urlsplit(path).path.split("/")
    return parts[5], parts[7]


def main() -> None:
    """Carry out the order on stdin."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    outcome = asyncio.run(_by_aiohttp(order)) if order.client == "aiohttp" else _by_ours(order)
    json.dump(asdict(outcome), sys.stdout)


if __name__ == "__main__":
    main()
