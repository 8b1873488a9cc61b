"""HTTP/1.1 as `ApiProxy` (fix_proxy) needs it: heads, whole bodies, and the lines of a watch."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from urllib.parse import parse_qs, urlsplit


def chunk(data: bytes) -> bytes:
    return b"%x\r\n%b\r\n" % (len(data), data)


def parsed(head: bytes) -> tuple[str, dict[str, str]]:
    first, *rest = head.decode("latin-1").rstrip("\r\n").split("\r\n")
    return first, {name.strip().lower(): value.strip() for name, _, value in (line.partition(":") for line in rest)}


def verb_of(method: str, target: str) -> str:
    query = parse_qs(urlsplit(target).query)
    if method == "GET":
        return "watch" if query.get("watch") == ["true"] else "list" if "limit" in query else "get"
    return {"PATCH": "patch", "POST": "create"}.get(method, method.lower())


async def chunks(reader: asyncio.StreamReader, found: Callable[[bytes], object]) -> None:
    while size := int(await reader.readuntil(b"\r\n"), 16):
        found(await reader.readexactly(size))
        await reader.readexactly(2)
    await reader.readuntil(b"\r\n")


async def whole(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if "content-length" in headers:
        return await reader.readexactly(int(headers["content-length"]))
    parts: list[bytes] = []
    if headers.get("transfer-encoding") == "chunked":
        await chunks(reader, parts.append)
    return b"".join(parts)


async def read_lines(reader: asyncio.StreamReader, lines: asyncio.Queue[bytes | None]) -> None:
    pending = b""

    def found(data: bytes) -> None:
        nonlocal pending
        *whole, pending = (pending + data).split(b"\n")
        for line in whole:
            lines.put_nowait(line + b"\n")

    with contextlib.suppress(OSError, EOFError):
        await chunks(reader, found)
    lines.put_nowait(None)
