"""Creates Jobs when they are due and plays the Job controller and the nodes for them; in a process of its own.

One watch tells it of Jobs. One that is unsuspended starts: its status says so, and when its run time has gone by since it was seen, that it is
complete. One that is suspended again while it runs is stopped, and what it did is lost: it runs for its whole time when it is
unsuspended the next time. Of one Job at most one patch is on its way.

    Waiting -- unsuspended --> Running -- its time has gone by --> Done
       ^                          |
       +--- Stopping <- suspended -+

An order comes as JSON on stdin, an outcome goes as JSON to stdout.
"""

from __future__ import annotations

import asyncio
import enum
import gc
import resource
import sys
import time
from asyncio import Task, TimerHandle
from collections import Counter
from collections.abc import Coroutine
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from http import HTTPStatus
from typing import Any

import aiohttp
import msgspec
import uvloop

from aiqueue.cli.harness.errors import HarnessError
from aiqueue.cli.harness.ports import LOOPBACK
from baseline import statuses
from baseline.lines import Lines
from baseline.orders import Lived, Order, Outcome, Planned, done_by_ten_seconds
from stand import sender

#: With many more, what watches are to be told waits behind requests in the API server, which ends a watch that it cannot serve in time.
#: With fewer, creates fall further behind when they were due.
CREATE_CONNECTIONS = 32
STATUS_CONNECTIONS = 32
MOST_WATCHES = 200
WATCH_PAUSE_SECONDS = 0.05
#: Conflicts of one Job in one state. Each is answered by what the watch tells next.
MOST_CONFLICTS = 50
_WATCH = "/apis/batch/v1/jobs?watch=true&labelSelector=aiqueue.dev%2Fqueue&timeoutSeconds=3600"


class Phase(enum.Enum):
    """Where a Job stands."""

    WAITING = enum.auto()
    RUNNING = enum.auto()
    STOPPING = enum.auto()
    DONE = enum.auto()


class _Metadata(msgspec.Struct, rename="camel"):
    name: str
    namespace: str
    resource_version: str


class _Spec(msgspec.Struct):
    suspend: bool = False


class _Job(msgspec.Struct):
    metadata: _Metadata
    spec: _Spec


class _Event(msgspec.Struct):
    type: str
    object: _Job


class _Written(msgspec.Struct):
    metadata: _Metadata


@dataclass(slots=True)
class _Slot:
    """A Job. `told` is what its status says: whether its pod runs. `run` counts its runs; `seen_at` and `ended_at` are when
    this one began, and when that it is complete was said."""

    plan: Planned
    lived: Lived
    status_path: str
    phase: Phase = Phase.WAITING
    version: int = 0
    told: bool = False
    stopped_before: bool = False
    elapsed: bool = False
    seen_at: float = 0.0
    ended_at: float = 0.0
    run: int = 0
    conflicts: int = 0
    obsolete: int = 0
    timer: TimerHandle | None = None
    busy: bool = False


@dataclass(frozen=True, slots=True)
class _Said:
    """A patch on its way: what it is, and the slot's phase, run and `told` that it was made of, at which resourceVersion."""

    what: str
    phase: Phase
    run: int
    told: bool
    version: int


@dataclass(slots=True)
class Executor:
    """All Jobs of an order."""

    order: Order
    session: aiohttp.ClientSession
    loop: asyncio.AbstractEventLoop
    creates: Lines = field(init=False)
    patches: Lines = field(init=False)
    began: float = 0.0
    epoch: float = 0.0
    counts: Counter[str] = field(default_factory=Counter)
    slots: list[_Slot] = field(default_factory=list)
    by_name: dict[tuple[str, str], _Slot] = field(default_factory=dict)
    left: int = 0
    all_done: asyncio.Event = field(default_factory=asyncio.Event)
    watching: asyncio.Event = field(default_factory=asyncio.Event)
    tasks: set[Task[None]] = field(default_factory=set)
    failed: asyncio.Future[Any] = field(init=False)

    def __post_init__(self) -> None:
        self.failed = self.loop.create_future()
        self.creates, self.patches = (Lines(self.order.port, self.order.ca_file, self.order.token, self.fail) for _ in range(2))
        for plan in self.order.jobs:
            slot = _Slot(plan, Lived(), statuses.path(plan.path))
            parts = plan.path.split("/")
            self.by_name[parts[-3], parts[-1]] = slot
            self.slots.append(slot)
        self.left = len(self.slots)

    def now(self) -> float:
        """Seconds from the beginning."""
        return self.loop.time() - self.began

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Do something beside; its failure ends everything."""
        task = self.loop.create_task(work)
        self.tasks.add(task)
        task.add_done_callback(self._ended)

    def _ended(self, task: Task[None]) -> None:
        self.tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            self.fail(error)

    def fail(self, error: BaseException) -> None:
        """End everything, unless it is over."""
        if not self.failed.done() and not self.all_done.is_set():
            self.failed.set_exception(error)

    async def first_of(self, awaited: Coroutine[Any, Any, bool], seconds: float) -> None:
        """Return when that is there, or the time is up; raise what anything beside failed of."""
        waiting: asyncio.Future[Any] = self.loop.create_task(awaited)
        await asyncio.wait([self.failed, waiting], timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        waiting.cancel()
        if self.failed.done():
            self.failed.result()

    # Creating

    async def create_all(self) -> None:
        """Create each Job when it is due, or as soon after it as a connection is free."""
        free = asyncio.Semaphore(CREATE_CONNECTIONS)
        for slot in self.slots:
            wait = slot.plan.due_seconds - self.now()
            if wait > 0:
                await asyncio.sleep(wait)
            await free.acquire()
            slot.lived.sent = self.now()
            answered = partial(self._created, slot, free)
            self.creates.send("POST", slot.plan.collection, "application/json", slot.plan.body.encode(), answered)

    def _created(self, slot: _Slot, free: asyncio.Semaphore, status: int, content: bytes) -> None:
        free.release()
        if status != HTTPStatus.CREATED:
            self.fail(HarnessError(f"the create of {slot.plan.path} was answered {status}: {content[:300]!r}"))
        slot.lived.created = self.now()
        self.counts["creates"] += 1

    # Watching

    async def watch(self) -> None:
        """Follow what becomes of Jobs."""
        version = ""
        for _ in range(MOST_WATCHES):
            self.counts["watches"] += 1
            with suppress(aiohttp.ClientPayloadError, aiohttp.ServerDisconnectedError):
                version = await self._watch(version)
            await asyncio.sleep(WATCH_PAUSE_SECONDS)
        raise HarnessError(f"the API server ended {MOST_WATCHES} watches")

    async def _watch(self, version: str) -> str:
        decoder = msgspec.json.Decoder(_Event)
        path = f"{_WATCH}&resourceVersion={version}" if version else _WATCH
        async with self.session.get(path, timeout=aiohttp.ClientTimeout(total=None)) as answer:
            if answer.status != HTTPStatus.OK:
                raise HarnessError(f"the watch of Jobs was answered {answer.status}: {await answer.text()}")
            self.watching.set()
            rest = b""
            async for chunk in answer.content.iter_any():
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    event = decoder.decode(line)
                    version = event.object.metadata.resource_version
                    self._follow(event)
        return version

    def _follow(self, event: _Event) -> None:
        self.counts["watch_events"] += 1
        metadata = event.object.metadata
        slot = self.by_name.get((metadata.namespace, metadata.name))
        if slot is None or slot.phase is Phase.DONE:
            return
        if event.type == "DELETED":
            raise HarnessError(f"Job {metadata.namespace}/{metadata.name} was deleted")
        version = int(metadata.resource_version)
        if version < slot.version:
            return
        slot.version = version
        if event.object.spec.suspend:
            if slot.phase is Phase.RUNNING:
                self._suspended(slot)
        elif slot.phase is not Phase.RUNNING:
            self._unsuspended(slot)
        self._sync(slot)

    def _unsuspended(self, slot: _Slot) -> None:
        slot.phase, slot.told, slot.elapsed, slot.conflicts = Phase.RUNNING, False, False, 0
        slot.run += 1
        slot.seen_at = self.now()
        if slot.run == 1:
            slot.lived.unsuspended = slot.seen_at
        slot.timer = self.loop.call_later(slot.plan.run_seconds, self._elapsed, slot)

    def _elapsed(self, slot: _Slot) -> None:
        slot.elapsed = True
        self._sync(slot)

    def _suspended(self, slot: _Slot) -> None:
        if slot.timer is not None:
            slot.timer.cancel()
        slot.phase, slot.elapsed, slot.conflicts = Phase.STOPPING, False, 0
        slot.lived.spans.append((slot.seen_at, self.now()))

    # Writing status

    def _sync(self, slot: _Slot) -> None:
        """Write the status if there is something to say that is not on its way."""
        if slot.busy or slot.version <= slot.obsolete:
            return
        if slot.phase is Phase.STOPPING or (slot.phase is Phase.RUNNING and (not slot.told or slot.elapsed)):
            slot.busy = True
            self._write(slot)

    def _write(self, slot: _Slot) -> None:
        phase, run, told, version = slot.phase, slot.run, slot.told, slot.version
        now = self.epoch + self.now()
        if phase is Phase.STOPPING:
            what, body = "stops", statuses.stop(str(version), now)
        elif not told:
            what, body = "starts", statuses.start(str(version), now, resumed=slot.stopped_before)
        else:
            slot.ended_at = self.now()
            what, body = "completes", statuses.complete(str(version), now, resumed=slot.stopped_before)
        answered = partial(self._answered, slot, _Said(what, phase, run, told, version))
        self.patches.send("PATCH", slot.status_path, sender.MERGE_PATCH, body, answered)

    def _answered(self, slot: _Slot, said: _Said, status: int, content: bytes) -> None:
        slot.busy = False
        if status == HTTPStatus.CONFLICT:
            self.counts["conflicts"] += 1
            slot.conflicts += 1
            slot.obsolete = max(slot.obsolete, said.version)
            if slot.conflicts > MOST_CONFLICTS:
                self.fail(
                    HarnessError(f"the status of {slot.plan.path} changed {slot.conflicts} times while it was to be written")
                )
        elif status == HTTPStatus.OK:
            self.counts[said.what] += 1
            slot.version = max(slot.version, int(_written.decode(content).metadata.resource_version))
            self._written(slot, said)
        else:
            self.fail(HarnessError(f"the status of {slot.plan.path} was answered {status}: {content[:500]!r}"))
        self._sync(slot)

    def _written(self, slot: _Slot, said: _Said) -> None:
        """The API server has what was to be said of that run."""
        if said.phase is Phase.STOPPING:
            slot.stopped_before = True
        if slot.run != said.run:
            return
        if said.phase is Phase.STOPPING:
            slot.phase = Phase.WAITING
        elif said.told:
            slot.lived.done = self.now()
            if slot.phase is Phase.RUNNING:
                slot.lived.spans.append((slot.seen_at, slot.ended_at))
            slot.phase = Phase.DONE
            self.left -= 1
            if not self.left:
                self.all_done.set()
        else:
            slot.told = True

    def outcome(self) -> Outcome:
        """What to report."""
        used = resource.getrusage(resource.RUSAGE_SELF)
        return Outcome(
            self.epoch,
            [slot.lived for slot in self.slots],
            dict(self.counts),
            used.ru_utime + used.ru_stime,
            used.ru_maxrss * 1024,
        )


_written = msgspec.json.Decoder(_Written)


async def execute(order: Order) -> Outcome:
    """Carry out an order.

    Raises:
        HarnessError: a request failed, or not all Jobs were done in time.
    """
    timeout = aiohttp.ClientTimeout(total=sender.ANSWER_SECONDS)
    async with aiohttp.ClientSession(
        f"https://{LOOPBACK}:{order.port}",
        connector=sender.connector(order.ca_file, 1),
        headers=sender.headers(order.token),
        timeout=timeout,
        read_bufsize=2**20,
    ) as session:
        executor = Executor(order, session, asyncio.get_running_loop())
        executor.loop.set_exception_handler(
            lambda _loop, said: executor.fail(said.get("exception") or HarnessError(said["message"]))
        )
        await executor.creates.open(CREATE_CONNECTIONS)
        await executor.patches.open(STATUS_CONNECTIONS)
        executor.spawn(executor.watch())
        await executor.first_of(executor.watching.wait(), sender.ANSWER_SECONDS)
        gc.collect()
        gc.freeze()
        executor.began, executor.epoch = executor.loop.time(), time.time()
        executor.spawn(executor.create_all())
        await executor.first_of(executor.all_done.wait(), order.most_seconds)
        if executor.left:
            phases = Counter(slot.phase.name.lower() for slot in executor.slots)
            raise HarnessError(
                f"of {len(executor.slots)} Jobs {phases['done']} were done within {order.most_seconds:g} s: "
                f"{dict(phases)}, {dict(executor.counts)}, by ten seconds {done_by_ten_seconds(slot.lived for slot in executor.slots)}"
            )
        for task in executor.tasks:
            task.cancel()
        return executor.outcome()


def main() -> int:
    """Carry out the order on stdin."""
    order = msgspec.json.decode(sys.stdin.buffer.read(), type=Order)
    try:
        outcome = uvloop.run(execute(order))
    except (HarnessError, aiohttp.ClientError, TimeoutError) as error:
        print(f"{type(error).__name__}: {error}", file=sys.stderr)
        return 1
    sys.stdout.buffer.write(msgspec.json.encode(outcome))
    return 0


if __name__ == "__main__":
    sys.exit(main())
