"""A TLS proxy in front of a real API server that does, while it runs, what servers, load balancers and networks do at their worst.

    with ApiProxy(cluster) as proxy:
        proxy.befall(answer(429, retry_after=2), verb="patch", times=5)   # the next five patches
        proxy.befall(LOST, verb="patch", path="/jobs/train", times=1)      # done by the server, and nobody hears of it
        proxy.meddle(reversed_order, gather_seconds=0.3)                   # events of each 0.3 s, newest first
        proxy.cut_watches(within=True); proxy.freeze_watches(); proxy.down("refusing"); proxy.up()
        proxy.count("patch", since=mark); proxy.peak(since=mark)

It speaks HTTP/1.1, as the controller does, shows the API server's own certificate and carries the caller's credentials on.
"""

from __future__ import annotations

import asyncio
import json
import ssl
import threading
import time
from collections import Counter
from collections.abc import Coroutine
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from types import TracebackType
from typing import Any, Literal, TypeVar
from urllib.parse import urlsplit

import yaml

from aiqueue.cli.harness.cluster import DevCluster
from fix_kube import WAIT_SECONDS, server_port, write_kubeconfig
from fix_proxy_faults import Asked, Fault, Meddler, Rule, Verb, unchanged
from fix_proxy_http import chunk, parsed, read_lines, verb_of, whole

T = TypeVar("T")

_HISTORY = 300
_LIMIT = 1 << 22


@dataclass(slots=True)
class _Watch:
    """One watch that is open."""

    writer: asyncio.StreamWriter
    history: list[bytes] = field(default_factory=list)


class ApiProxy:
    """One proxy, with a thread of its own. Everything public may be called from any thread."""

    def __init__(self, cluster: DevCluster, *, seed: int = 1) -> None:
        pki = cluster.folder / "pki"
        self._near_tls = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._near_tls.load_cert_chain(pki / "serving.crt", pki / "serving.key")
        self._far_tls = ssl.create_default_context(cafile=str(cluster.ca_file))
        self._far_tls.verify_flags &= ~ssl.VERIFY_X509_STRICT
        self._far_port = server_port(cluster)
        self._rng = Random(seed)
        self._lock = threading.Lock()
        self._asked: list[Asked] = []
        self._rules: list[Rule] = []
        self._state = "up"
        self._silent_until = asyncio.Event()
        self._frozen: set[int] = set()
        self._meddler: Meddler = unchanged
        self._gather_seconds = 0.0
        self._connections: set[asyncio.StreamWriter] = set()
        self._open: dict[int, _Watch] = {}
        self._serving: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="api-proxy", daemon=True)
        self.port = 0

    def __enter__(self) -> ApiProxy:
        self._thread.start()
        self._do(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        self._do(self._end())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(WAIT_SECONDS)
        self._loop.close()

    def kubeconfig(self, original: Path, folder: Path) -> Path:
        """The same credentials, but through the proxy."""
        content = yaml.safe_load(original.read_text())
        for each in content["clusters"]:
            each["cluster"]["server"] = f"https://127.0.0.1:{self.port}"
        return write_kubeconfig(folder, content)

    # What can befall it

    def befall(
        self,
        fault: Fault,
        *,
        verb: Verb = "",
        path: str = "",
        skip: int = 0,
        times: int | None = None,
        fraction: float = 1.0,
    ) -> Rule:
        """From now on a fault befalls these requests. The rule made first that fits is the one that counts."""
        rule = Rule(fault, verb, path, skip, times, fraction)
        with self._lock:
            self._rules.append(rule)
        return rule

    def relent(self) -> None:
        """No fault befalls anything any more, and events come as they are."""
        with self._lock:
            self._rules.clear()
        self.meddle(unchanged)

    def down(self, how: Literal["refusing", "dropping", "silent"]) -> None:
        """Break every connection and refuse new ones, or drop them once made, or keep them all and answer nothing."""
        self._do(self._go_down(how))

    def up(self) -> None:
        """Serve again; what was asked meanwhile of a silent proxy was lost with its connections."""
        self._do(self._come_up())

    def meddle(self, meddler: Meddler, *, gather_seconds: float = 0.0) -> None:
        """Have events of watches pass through `meddler`, all that come within so many seconds at once."""
        with self._lock:
            self._meddler, self._gather_seconds = meddler, gather_seconds

    def cut_watches(self, *, within: bool = False) -> int:
        """End every open watch, cleanly or in the middle of an event; returns how many there were."""
        return self._do(self._cut(within=within))

    def freeze_watches(self) -> None:
        """The watches that are open now stay so, and nothing comes over them any more."""
        self._do(self._freeze())

    def tell_watches(self, event: dict[str, Any]) -> None:
        """Put an event into every open watch."""
        self._do(self._tell(json.dumps(event).encode() + b"\n"))

    @property
    def watches(self) -> int:
        """Watches that are open and not frozen."""
        return len(self._open.keys() - self._frozen)

    # What was asked

    def asked(self, verb: Verb = "", path: str = "", *, since: float = 0.0) -> list[Asked]:
        """The requests of a verb with this text in their path."""
        with self._lock:
            return [each for each in self._asked if each.at >= since and verb in ("", each.verb) and path in each.path]

    def count(self, verb: Verb = "", path: str = "", *, since: float = 0.0) -> int:
        """How many there were."""
        return len(self.asked(verb, path, since=since))

    def peak(self, verb: Verb = "", path: str = "", *, since: float = 0.0) -> int:
        """The most within one second of the clock."""
        seconds = Counter(int(each.at - since) for each in self.asked(verb, path, since=since))
        return max(seconds.values(), default=0)

    # In the thread of the proxy

    def _do(self, work: Coroutine[Any, Any, T]) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(WAIT_SECONDS)

    async def _listen(self) -> None:
        until = time.monotonic() + WAIT_SECONDS
        while self._server is None:
            try:
                self._server = await asyncio.start_server(
                    self._serve, "127.0.0.1", self.port, ssl=self._near_tls, limit=_LIMIT, backlog=256, reuse_address=True
                )
            except OSError:  # while nobody listened there, somebody's connection got the port
                if time.monotonic() > until:
                    raise
                await asyncio.sleep(0.1)
        self.port = self._server.sockets[0].getsockname()[1]

    async def _close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._connections):
            writer.transport.abort()

    async def _end(self) -> None:
        self._silent_until.set()
        await self._close()
        for task in list(self._serving):
            task.cancel()
        await asyncio.gather(*self._serving, return_exceptions=True)

    async def _go_down(self, how: Literal["refusing", "dropping", "silent"]) -> None:
        await self._come_up()
        self._state = how
        self._silent_until.clear()
        if how == "silent":
            self._frozen |= self._open.keys()
        else:
            await self._close()
        if how == "dropping":
            await self._listen()

    async def _come_up(self) -> None:
        self._state = "up"
        if self._server is None:
            await self._listen()
        self._silent_until.set()

    async def _cut(self, *, within: bool) -> int:
        watches = list(self._open.values())
        for watch in watches:
            if within:
                part = b'{"type":"MODIFIED","object":{"kind":"Job","metadata":{"na'
                watch.writer.write(b"%x\r\n%b\r\n" % (len(part), part))
                watch.writer.close()
            else:
                watch.writer.write(b"0\r\n\r\n")
                watch.writer.close()
        self._open.clear()
        return len(watches)

    async def _freeze(self) -> None:
        self._frozen |= self._open.keys()

    async def _tell(self, line: bytes) -> None:
        for watch in self._open.values():
            watch.writer.write(chunk(line))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._serving.add(task)
        self._connections.add(writer)
        far: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
        try:
            if self._state == "dropping":
                self._note(time.monotonic(), "connect", "", 0)
                return
            while await self._exchange(reader, writer, far):
                pass
        except (OSError, EOFError, asyncio.LimitOverrunError, ssl.SSLError, ConnectionError):
            pass  # one of the two ends hung up, as it may
        except asyncio.CancelledError:
            pass  # the proxy ends; to say so to the server of streams would only be logged by it
        finally:
            self._connections.discard(writer)
            self._serving.discard(task)
            for _, other in far:
                other.transport.abort()
            writer.transport.abort()

    async def _exchange(
        self,
        near: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        far: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]],
    ) -> bool:
        """Carry one request and its answer; returns whether the connection can carry another."""
        head = await near.readuntil(b"\r\n\r\n")
        line, headers = parsed(head)
        body = await near.readexactly(int(headers.get("content-length", "0")))
        method, target, _ = line.split(" ", 2)
        verb, path = verb_of(method, target), urlsplit(target).path
        at = time.monotonic()
        if self._state == "silent":
            self._note(at, verb, path, 0)
            await self._silent_until.wait()
            return False
        with self._lock:
            rule = next((rule for rule in self._rules if rule.meets(verb, path, self._rng)), None)
        fault = rule.fault if rule is not None else Fault()
        if not fault.forward:
            self._note(at, verb, path, fault.status or 0)
            await self._reply(writer, fault, fault.status or 500, dict(fault.headers), fault.body or b"")
            return fault.ends == "whole"
        if not far:
            far.append(
                await asyncio.open_connection(
                    "127.0.0.1", self._far_port, ssl=self._far_tls, server_hostname="localhost", limit=_LIMIT
                )
            )
        far_reader, far_writer = far[0]
        far_writer.write(head + body)
        line, headers = parsed(await far_reader.readuntil(b"\r\n\r\n"))
        status = int(line.split(" ", 2)[1])
        self._note(at, verb, path, status)
        if verb == "watch" and status == 200:
            await asyncio.sleep(fault.late_seconds)
            await self._carry_watch(far_reader, near, writer, headers, fault.trickle)
            return False
        answered = await whole(far_reader, headers)
        if self._state == "silent":
            await self._silent_until.wait()
            return False
        kept = {name: value for name, value in headers.items() if name not in ("transfer-encoding", "content-length")}
        await self._reply(writer, fault, fault.status or status, kept, answered if fault.body is None else fault.body)
        return fault.ends == "whole"

    async def _reply(
        self, writer: asyncio.StreamWriter, fault: Fault, status: int, headers: dict[str, str], body: bytes
    ) -> None:
        await asyncio.sleep(fault.late_seconds)
        if fault.ends == "lost":
            return
        said = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        writer.write(f"HTTP/1.1 {status} Injected\r\n{said}Content-Length: {len(body)}\r\n\r\n".encode("latin-1"))
        if fault.ends == "truncated":
            writer.write(body[: len(body) // 2])
            await writer.drain()
            return
        size, pause_seconds = fault.trickle
        for start in range(0, len(body), size or len(body) or 1):
            writer.write(body[start : start + (size or len(body))])
            await writer.drain()
            await asyncio.sleep(pause_seconds)
        await writer.drain()

    async def _carry_watch(
        self,
        far: asyncio.StreamReader,
        near: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        headers: dict[str, str],
        trickle: tuple[int, float],
    ) -> None:
        said = "".join(f"{name}: {value}\r\n" for name, value in headers.items() if name != "transfer-encoding")
        writer.write(f"HTTP/1.1 200 OK\r\n{said}Transfer-Encoding: chunked\r\n\r\n".encode("latin-1"))
        watch = _Watch(writer)
        self._open[id(watch)] = watch
        lines: asyncio.Queue[bytes | None] = asyncio.Queue()
        tasks = [
            asyncio.create_task(read_lines(far, lines)),
            asyncio.create_task(self._tell_lines(lines, watch, trickle)),
            asyncio.create_task(near.read(1)),  # the other end has nothing to say: this ends when it hangs up
        ]
        try:
            await asyncio.wait(tasks[1:], return_when=asyncio.FIRST_COMPLETED)
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            self._open.pop(id(watch), None)
            self._frozen.discard(id(watch))

    async def _tell_lines(self, lines: asyncio.Queue[bytes | None], watch: _Watch, trickle: tuple[int, float]) -> None:
        size, pause_seconds = trickle
        while True:
            batch = [await lines.get()]
            with self._lock:
                meddler, gather_seconds = self._meddler, self._gather_seconds
            if gather_seconds:
                await asyncio.sleep(gather_seconds)
                while not lines.empty():
                    batch.append(lines.get_nowait())
            while id(watch) in self._frozen:
                await asyncio.sleep(0.05)
            events = [each for each in batch if each is not None]
            for line in meddler(events, watch.history):
                for start in range(0, len(line), size or len(line)):
                    watch.writer.write(chunk(line[start : start + (size or len(line))]))
                    await asyncio.sleep(pause_seconds)
            watch.history = [*watch.history, *events][-_HISTORY:]
            if None in batch:
                watch.writer.write(b"0\r\n\r\n")
                await watch.writer.drain()
                return
            await watch.writer.drain()

    def _note(self, at: float, verb: str, path: str, status: int) -> None:
        with self._lock:
            self._asked.append(Asked(at, verb, path, status))
