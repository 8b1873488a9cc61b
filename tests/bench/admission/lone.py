"""Creates Jobs one by one and times each to the moment when a watch shows that it was started; in a process of its own."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path
from time import perf_counter

import aiohttp
import msgspec

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.ports import LOOPBACK
from stand import sender

BENCH = Path(__file__).parents[1]
START_SECONDS = 30.0
_WATCH = "/apis/batch/v1/jobs?watch=true&labelSelector=aiqueue.dev%2Fqueue"


class _Metadata(msgspec.Struct):
    name: str


class _Spec(msgspec.Struct):
    suspend: bool = False


class _Job(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec


class _Event(msgspec.Struct):
    type: str
    object: _Job


class _Ordered(msgspec.Struct):
    order: sender.Order
    rate: float


_decoder = msgspec.json.Decoder(_Event)


def follow(order: sender.Order, rate: float) -> Sequence[float]:
    """Create each Job, so many a second, and see it start; milliseconds from when its create was sent.

    Raises:
        HarnessError: a create failed, or a Job was not started in time.
    """
    given = msgspec.json.encode({"order": asdict(order), "rate": rate})
    seconds = len(order.requests) / rate + 2 * START_SECONDS
    argv = [sys.executable, "-m", __name__]
    done = subprocess.run(argv, input=given, cwd=BENCH, capture_output=True, check=False, timeout=seconds)
    if done.returncode != 0:
        raise HarnessError(f"the client failed: {done.stderr.decode(errors='replace').strip()[-1000:]}")
    return msgspec.json.decode(done.stdout, type=list[float])


async def _follow(order: sender.Order, rate: float) -> list[float]:
    sent: dict[str, float] = {}
    took: list[float] = []
    watching, all_started = asyncio.Event(), asyncio.Event()
    base = f"https://{LOOPBACK}:{order.port}"
    timeout = aiohttp.ClientTimeout(total=None, sock_read=START_SECONDS)
    async with aiohttp.ClientSession(
        base,
        connector=sender.connector(order.ca_file, 64),
        headers=sender.headers(order.token),
        timeout=timeout,
        read_bufsize=2**20,
    ) as session:

        async def watch() -> None:
            async with session.get(_WATCH) as answer:
                watching.set()
                async for line in answer.content:
                    now = perf_counter()
                    event = _decoder.decode(line)
                    name = event.object.metadata.name
                    if not event.object.spec.suspend and name in sent:
                        took.append((now - sent.pop(name)) * 1000)
                    if len(took) == len(order.requests):
                        all_started.set()

        async def create(path: str, body: dict[str, dict[str, str]]) -> None:
            sent[body["metadata"]["name"]] = perf_counter()
            async with session.post(path, json=body) as answer:
                if answer.status != order.status:
                    raise HarnessError(f"POST {path} was answered {answer.status}: {await answer.text()}")

        async with asyncio.TaskGroup() as group:
            watcher = group.create_task(watch())
            await watching.wait()
            began = perf_counter()
            for number, (_method, path, body) in enumerate(order.requests):
                await asyncio.sleep(max(0.0, began + number / rate - perf_counter()))
                group.create_task(create(path, body))
            async with asyncio.timeout(START_SECONDS):
                await all_started.wait()
            watcher.cancel()
    return took


def main() -> None:
    """Carry out the order on stdin."""
    ordered = msgspec.json.decode(sys.stdin.buffer.read(), type=_Ordered)
    json.dump(asyncio.run(_follow(ordered.order, ordered.rate)), sys.stdout)


if __name__ == "__main__":
    main()
