#!/usr/bin/env python3
"""An HTTP proxy that makes the server behind it far away: each response begins later, and each connection is only so fast.

usage: slow_proxy.py --port PORT --to PORT --control PORT [--copies DIR] [--latency-ms 20] [--mb-per-second 200]

All on 127.0.0.1. Requests pass unchanged, so their signatures stay good; connections are kept alive. A response's first byte waits for
the latency on top of the server's own; its body then leaves at the rate at most. Request bodies are not slowed down.

With --copies, what was put is also kept in files, and reads of a range are answered from them, by the kernel (sendfile). An object store
is on other machines; a server on this one would take its processors from the database, and be late with them all in use.

GET /stats on the control port says what has passed since the last GET /reset, in JSON. Reads that name a range are noted by object, so
that bytes which were read twice can be told.
"""

import argparse
import asyncio
import contextlib
import json
import os
import pathlib
import re
import signal
import urllib.parse
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

# Read and sent at once: 1.3 ms at 200 MB/s, about what a timer can resolve.
PIECE_BYTES = 256 << 10
# A stream waits when it is so much ahead of its rate; it makes up for what a timer oversleeps.
AHEAD_SECONDS_MAX = 0.0005
# Heads are at most so long; bodies stop being read from the server when twice as much waits to be sent.
BUFFER_BYTES = 1 << 20

RANGE = re.compile(rb"\r\nrange: *bytes=(\d+)-(\d+)\r\n", re.IGNORECASE)
LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)\r\n", re.IGNORECASE)
CHUNKED = re.compile(rb"\r\ntransfer-encoding: *chunked\r\n", re.IGNORECASE)
KEY = re.compile(rb"<Key>([^<]*)</Key>")
CLOSE = re.compile(rb"\r\nconnection: *close\r\n", re.IGNORECASE)

Span = tuple[int, int]


def union_bytes(spans: list[Span]) -> int:
    """Bytes that are in at least one of the spans (start, end)."""
    total, reached = 0, 0
    for start, end in sorted(spans):
        total += max(0, end - max(start, reached))
        reached = max(reached, end)
    return total


@dataclass
class Stats:
    """What has passed since the last reset."""

    requests: Counter[str] = field(default_factory=Counter)
    statuses: Counter[str] = field(default_factory=Counter)
    # response bodies of GET, request bodies of PUT
    get_bytes: int = 0
    put_bytes: int = 0
    # of each object, the ranges that were read
    spans: dict[str, list[Span]] = field(default_factory=dict)
    in_flight: int = 0
    in_flight_max: int = 0
    # seconds in which a request was in flight, and the sum of all requests' seconds
    busy_seconds: float = 0.0
    request_seconds: float = 0.0
    changed_at: float = 0.0

    def change(self, now: float, by: int) -> None:
        """A request begins (1) or ends (-1)."""
        if self.in_flight:
            self.busy_seconds += now - self.changed_at
            self.request_seconds += self.in_flight * (now - self.changed_at)
        self.changed_at = now
        self.in_flight += by
        self.in_flight_max = max(self.in_flight_max, self.in_flight)

    def read(self, path: str, start: int, count: int) -> None:
        if count:
            self.spans.setdefault(path, []).append((start, start + count))

    def reset(self, now: float) -> None:
        vars(self).update(vars(Stats(in_flight=self.in_flight, in_flight_max=self.in_flight, changed_at=now)))

    def shown(self) -> dict[str, object]:
        spans = self.spans.values()
        read = sum(end - start for of in spans for start, end in of)
        return {
            "requests": dict(self.requests),
            "statuses": dict(self.statuses),
            "get_bytes": self.get_bytes,
            "put_bytes": self.put_bytes,
            "range_reads": sum(map(len, spans)),
            "range_bytes": read,
            "range_bytes_again": read - sum(map(union_bytes, spans)),
            "range_reads_again": sum(len(of) - len(set(of)) for of in spans),
            "objects_read": len(self.spans),
            "in_flight": self.in_flight,
            "in_flight_max": self.in_flight_max,
            "in_flight_mean": self.request_seconds / self.busy_seconds if self.busy_seconds else 0.0,
            "busy_seconds": self.busy_seconds,
        }


class Pace:
    """Keeps one stream at its rate."""

    def __init__(self, bytes_per_second: float) -> None:
        self.bytes_per_second, self.sent = bytes_per_second, 0
        self.started = asyncio.get_running_loop().time()

    async def wait_for(self, count: int) -> None:
        """Returns when the last of `count` more bytes may have left."""
        self.sent += count
        due = self.started + self.sent / self.bytes_per_second
        ahead = due - asyncio.get_running_loop().time()
        if ahead > AHEAD_SECONDS_MAX:
            await asyncio.sleep(ahead)


@dataclass
class Head:
    """The first lines of a request or a response, as they came."""

    raw: bytes

    @property
    def first_line(self) -> list[str]:
        return self.raw.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)

    @property
    def status(self) -> int:
        return int(self.first_line[1])

    @property
    def closes(self) -> bool:
        return bool(CLOSE.search(self.raw)) or self.raw.startswith(b"HTTP/1.0")

    def length(self) -> int | None:
        found = LENGTH.search(self.raw)
        return int(found[1]) if found else None

    def is_chunked(self) -> bool:
        return bool(CHUNKED.search(self.raw))

    def range_start(self) -> int | None:
        found = RANGE.search(self.raw)
        return int(found[1]) if found else None

    def range(self, size: int) -> Span | None:
        """What is asked for of an object of that size, which has it."""
        found = RANGE.search(self.raw)
        if not found or int(found[1]) >= size:
            return None
        return int(found[1]), min(int(found[2]) + 1, size)


@dataclass
class Copies:
    """Objects that were put, each in a file. They never change: a path is put once and deleted once."""

    directory: pathlib.Path
    files: dict[str, pathlib.Path] = field(default_factory=dict)

    def follow(self, method: str, target: str, body: bytes) -> None:
        """The server has done what was asked for."""
        if method == "PUT":
            path = self.directory / urllib.parse.quote(target, safe="")
            path.write_bytes(body)
            self.files[target] = path
        elif method == "DELETE":
            self.drop(target)
        elif method == "POST":
            bucket = target.split("?")[0].rstrip("/")
            for key in KEY.findall(body):
                self.drop(f"{bucket}/{key.decode()}")

    def drop(self, target: str) -> None:
        if path := self.files.pop(target, None):
            path.unlink()


async def read_head(reader: asyncio.StreamReader) -> Head | None:
    """None where the connection ends."""
    try:
        return Head(await reader.readuntil(b"\r\n\r\n"))
    except (asyncio.IncompleteReadError, ConnectionError):
        return None


async def counted(reader: asyncio.StreamReader, length: int) -> AsyncIterator[bytes]:
    while length:
        piece = await reader.read(min(length, PIECE_BYTES))
        if not piece:
            raise ConnectionError("the body ended early")
        length -= len(piece)
        yield piece


async def chunked(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    """Chunks with what is around them, the trailer included."""
    size = -1
    while size:
        line = await reader.readuntil(b"\r\n")
        size = int(line.split(b";")[0], 16)
        yield line
        async for piece in counted(reader, size + 2 if size else 0):
            yield piece
    line = b""
    while line != b"\r\n":
        line = await reader.readuntil(b"\r\n")
        yield line


async def until_end(reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    while piece := await reader.read(PIECE_BYTES):
        yield piece


def request_body(head: Head, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    return chunked(reader) if head.is_chunked() else counted(reader, head.length() or 0)


def response_body(method: str, head: Head, reader: asyncio.StreamReader) -> AsyncIterator[bytes]:
    if method == "HEAD" or head.status in (204, 304):
        return counted(reader, 0)
    if head.is_chunked():
        return chunked(reader)
    length = head.length()
    return until_end(reader) if length is None else counted(reader, length)


class Connection:
    """A client's connection and, once there is a request, one of its own to the server."""

    def __init__(self, proxy: "Proxy", reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer
        self.server: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.writer.transport.set_write_buffer_limits(high=PIECE_BYTES)

    async def serve(self) -> None:
        stats, now = self.proxy.stats, asyncio.get_running_loop().time
        while head := await read_head(self.reader):
            stats.change(now(), 1)
            try:
                goes_on = await self.exchange(head)
            finally:
                stats.change(now(), -1)
            if not goes_on:
                return

    async def to_server(self) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """The server may have closed a connection on which nothing was asked."""
        if self.server and self.server[0].at_eof():
            self.server[1].close()
            self.server = None
        if not self.server:
            self.server = await asyncio.open_connection("127.0.0.1", self.proxy.to_port, limit=BUFFER_BYTES)
        return self.server

    async def exchange(self, request: Head) -> bool:
        """One request and its response; whether another may follow."""
        (method, target, *_), stats = request.first_line, self.proxy.stats
        stats.requests[method] += 1
        copies, body = self.proxy.copies, bytearray()
        if copies and method == "GET" and (path := copies.files.get(target)) and request.range_start() is not None:
            await self.send_copy(request, path)
            return not request.closes
        reader, writer = await self.to_server()
        writer.write(request.raw)
        async for piece in request_body(request, self.reader):
            writer.write(piece)
            await writer.drain()
            stats.put_bytes += len(piece)
            if copies:
                body += piece
        response = await read_head(reader)
        while response and response.status < 200:
            self.writer.write(response.raw)
            response = await read_head(reader)
        if response is None:
            return False
        if copies and response.status < 300:
            copies.follow(method, target, bytes(body))
        stats.statuses[str(response.status)] += 1
        await asyncio.sleep(self.proxy.latency_seconds)
        self.writer.write(response.raw)
        await self.send_body(request, response, reader)
        return not (request.closes or response.closes) and (method == "HEAD" or has_end(response))

    async def send_body(self, request: Head, response: Head, reader: asyncio.StreamReader) -> None:
        stats, (method, path, *_) = self.proxy.stats, request.first_line
        pace, sent = Pace(self.proxy.bytes_per_second), 0
        try:
            async for piece in response_body(method, response, reader):
                await pace.wait_for(len(piece))
                self.writer.write(piece)
                await self.writer.drain()
                sent += len(piece)
        finally:
            if method == "GET":
                stats.get_bytes += sent
                start = request.range_start()
                if start is not None and response.status == 206:
                    stats.read(path, start, sent)
        await self.writer.drain()

    async def send_copy(self, request: Head, path: pathlib.Path) -> None:
        stats, target = self.proxy.stats, request.first_line[1]
        with path.open("rb") as file:
            size = os.fstat(file.fileno()).st_size
            span = request.range(size)
            stats.statuses["206" if span else "416"] += 1
            await asyncio.sleep(self.proxy.latency_seconds)
            if span is None:
                self.writer.write(b"HTTP/1.1 416 Range Not Satisfiable\r\nContent-Length: 0\r\n\r\n")
                return
            start, end = span
            head = f"HTTP/1.1 206 Partial Content\r\nContent-Length: {end - start}\r\nContent-Range: bytes {start}-{end - 1}/{size}\r\n"
            self.writer.write(f"{head}\r\n".encode())
            pace, at = Pace(self.proxy.bytes_per_second), start
            try:
                while at < end:
                    count = min(PIECE_BYTES, end - at)
                    await pace.wait_for(count)
                    await asyncio.get_running_loop().sendfile(self.writer.transport, file, at, count, fallback=False)
                    at += count
            finally:
                stats.get_bytes += at - start
                stats.read(target, start, at - start)

    def close(self) -> None:
        self.writer.close()
        if self.server:
            self.server[1].close()


def has_end(response: Head) -> bool:
    """Whether a reader can tell where the body ends, other than by the connection's end."""
    return response.is_chunked() or response.length() is not None or response.status in (204, 304)


class Proxy:
    def __init__(self, to_port: int, latency_seconds: float, bytes_per_second: float, copies: Copies | None = None) -> None:
        self.copies, self.to_port, self.latency_seconds, self.bytes_per_second = copies, to_port, latency_seconds, bytes_per_second
        self.stats = Stats()

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        connection = Connection(self, reader, writer)
        try:
            # either side may go away at any time; the other one is told by the end of its connection. At the end of the program, all are.
            over = (ConnectionError, asyncio.IncompleteReadError, asyncio.LimitOverrunError, asyncio.CancelledError, ValueError)
            with contextlib.suppress(*over):
                await connection.serve()
        finally:
            connection.close()

    async def control(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await read_head(reader)
        if head:
            path = head.first_line[1]
            body = json.dumps(self.stats.shown()).encode()
            if path == "/reset":
                self.stats.reset(asyncio.get_running_loop().time())
            status = "200 OK" if path in ("/stats", "/reset") else "404 Not Found"
            writer.write(f"HTTP/1.1 {status}\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n".encode() + body)
            with contextlib.suppress(ConnectionError):
                await writer.drain()
        writer.close()

    async def listen(self, port: int, control_port: int) -> tuple[asyncio.Server, asyncio.Server]:
        door = await asyncio.start_server(self.serve, "127.0.0.1", port, limit=BUFFER_BYTES, backlog=512)
        control = await asyncio.start_server(self.control, "127.0.0.1", control_port)
        return door, control


async def run(args: argparse.Namespace) -> None:
    copies = Copies(args.copies) if args.copies else None
    proxy = Proxy(args.to, args.latency_ms / 1e3, args.mb_per_second * 1e6, copies)
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    servers = await proxy.listen(args.port, args.control)
    await stopped.wait()
    for server in servers:
        server.close()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--port", type=int, required=True, help="where clients come in")
    parser.add_argument("--to", type=int, required=True, help="the server's port")
    parser.add_argument("--control", type=int, required=True, help="where /stats and /reset are")
    parser.add_argument("--copies", type=pathlib.Path, help="a directory for what is put, from which it is read again")
    parser.add_argument("--latency-ms", type=float, default=20.0, help="before the first byte of each response")
    parser.add_argument("--mb-per-second", type=float, default=200.0, help="of each connection's response bodies, 10^6 bytes")
    args = parser.parse_args()
    with contextlib.suppress(asyncio.CancelledError):
        asyncio.run(run(args))


if __name__ == "__main__":
    main()
