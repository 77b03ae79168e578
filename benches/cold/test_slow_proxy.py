import asyncio
import json
import pathlib
import tempfile
import time
import unittest
from collections.abc import Awaitable, Callable

from .slow_proxy import Copies, Proxy, Stats, read_head, union_bytes

LATENCY = 0.02
# a test of 2 MB takes 50 ms
RATE = 40e6
BODY = bytes(2_000_000)


async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """A server of one object: by range, whole, in chunks, or not at all."""
    while head := await read_head(reader):
        method, path, _ = head.first_line
        if length := head.length():
            await reader.readexactly(length)
        if path == "/chunked":
            writer.write(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n5\r\nhello\r\n0\r\n\r\n")
        elif path == "/gone":
            writer.close()
            return
        else:
            start = head.range_start()
            end = len(BODY) if start is None else min(start + 1_000_000, len(BODY))
            body = BODY[start or 0 : end] if path == "/object" else b""
            status = b"200 OK" if start is None else b"206 Partial Content"
            writer.write(b"HTTP/1.1 " + status + b"\r\nContent-Length: %d\r\n\r\n" % len(body))
            if method != "HEAD":
                writer.write(body)
    writer.close()


class Client:
    """One connection through the proxy."""

    def __init__(self, proxy: Proxy, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.proxy, self.reader, self.writer = proxy, reader, writer

    async def ask(self, request: str, body: bytes = b"") -> tuple[float, float, bytes]:
        """Seconds to the head and to the end, and the body."""
        length = f"content-length: {len(body)}\r\n" if body else ""
        started = time.perf_counter()
        self.writer.write(f"{request}\r\n{length}\r\n".encode() + body)
        head = await read_head(self.reader)
        first = time.perf_counter() - started
        assert head is not None
        count = 0 if request.startswith("HEAD") else head.length()
        if head.is_chunked():
            got = await self.reader.readuntil(b"0\r\n\r\n")
        else:
            got = await self.reader.readexactly(count or 0)
        return first, time.perf_counter() - started, got


def get(path: str, span: str = "") -> str:
    return f"GET {path} HTTP/1.1\r\nHost: x" + (f"\r\nRange: bytes={span}" if span else "")


def through_proxy(test: Callable[[list[Client]], Awaitable[None]], clients: int = 1, copies: Copies | None = None) -> None:
    async def run() -> None:
        server = await asyncio.start_server(answer, "127.0.0.1", 0)
        proxy = Proxy(server.sockets[0].getsockname()[1], LATENCY, RATE, copies)
        door, control = await proxy.listen(0, 0)
        port = door.sockets[0].getsockname()[1]
        opened = [await asyncio.open_connection("127.0.0.1", port, limit=1 << 22) for _ in range(clients)]
        try:
            await test([Client(proxy, *one) for one in opened])
        finally:
            for _, writer in opened:
                writer.close()
            for one in (door, control, server):
                one.close()
            # until the proxy has seen that its clients are gone
            await asyncio.sleep(0.01)

    asyncio.run(asyncio.wait_for(run(), 5))


class SlowProxy(unittest.TestCase):
    def test_the_first_byte_waits_and_the_connection_is_kept(self) -> None:
        async def test(clients: list[Client]) -> None:
            for _ in range(3):
                first, _, body = await clients[0].ask(get("/empty"))
                self.assertGreaterEqual(first, LATENCY)
                # a wide bound: another process may have the processor
                self.assertLess(first, LATENCY + 0.2)
                self.assertEqual(body, b"")
            self.assertEqual(clients[0].proxy.stats.requests["GET"], 3)

        through_proxy(test)

    def test_a_body_takes_its_size_over_the_rate(self) -> None:
        async def test(clients: list[Client]) -> None:
            first, whole, body = await clients[0].ask(get("/object"))
            self.assertEqual(len(body), len(BODY))
            self.assertGreaterEqual(whole - LATENCY, len(BODY) / RATE - 0.002)
            self.assertLess(whole - first, 4 * len(BODY) / RATE)

        through_proxy(test)

    def test_each_connection_has_the_rate_for_itself(self) -> None:
        async def test(clients: list[Client]) -> None:
            started = time.perf_counter()
            await asyncio.gather(*(client.ask(get("/object")) for client in clients))
            self.assertLess(time.perf_counter() - started, 0.75 * len(clients) * len(BODY) / RATE)
            shown = clients[0].proxy.stats.shown()
            self.assertEqual(shown["in_flight_max"], len(clients))
            self.assertGreater(float(str(shown["in_flight_mean"])), len(clients) / 2)

        through_proxy(test, clients=8)

    def test_other_shapes_of_messages_pass(self) -> None:
        async def test(clients: list[Client]) -> None:
            self.assertEqual((await clients[0].ask(get("/chunked")))[2], b"5\r\nhello\r\n0\r\n\r\n")
            self.assertEqual((await clients[0].ask("HEAD /object HTTP/1.1"))[2], b"")
            self.assertEqual((await clients[0].ask("PUT /empty HTTP/1.1", b"abc"))[2], b"")
            self.assertEqual(clients[0].proxy.stats.put_bytes, 3)
            self.assertEqual(len((await clients[0].ask(get("/object")))[2]), len(BODY))

        through_proxy(test)

    def test_a_server_that_hangs_up_ends_the_connection(self) -> None:
        async def test(clients: list[Client]) -> None:
            clients[0].writer.write(f"{get('/gone')}\r\n\r\n".encode())
            self.assertEqual(await clients[0].reader.read(), b"")

        through_proxy(test)

    def test_bytes_read_twice_are_counted(self) -> None:
        async def test(clients: list[Client]) -> None:
            for span in ("0-999999", "500000-1499999", "500000-1499999"):
                await clients[0].ask(get("/object", span))
            shown = clients[0].proxy.stats.shown()
            self.assertEqual((shown["range_reads"], shown["range_bytes"]), (3, 3_000_000))
            self.assertEqual((shown["range_bytes_again"], shown["range_reads_again"]), (1_500_000, 1))

        through_proxy(test)

    def test_what_was_put_is_read_from_its_copy_until_it_is_deleted(self) -> None:
        body = bytes(range(256)) * 4000

        async def test(clients: list[Client]) -> None:
            client = clients[0]
            for target in ("/kept", "/bucket/a"):
                await client.ask(f"PUT {target} HTTP/1.1", body)
            first, whole, got = await client.ask(get("/kept", "100-600099"))
            self.assertEqual(got, body[100:600_100])
            self.assertGreaterEqual(first, LATENCY)
            self.assertGreaterEqual(whole - LATENCY, len(got) / RATE - 0.002)
            self.assertEqual((await client.ask(get("/kept", "1023990-2000000")))[2], body[1_023_990:])
            self.assertEqual((await client.ask(get("/kept", "1024000-1024001")))[2], b"")
            self.assertEqual(client.proxy.stats.statuses["416"], 1)
            self.assertEqual(client.proxy.stats.shown()["range_bytes"], 600_010)
            await client.ask("DELETE /kept HTTP/1.1")
            await client.ask("POST /bucket?delete HTTP/1.1", b"<Delete><Object><Key>a</Key></Object></Delete>")
            # the server has no such object
            for target in ("/kept", "/bucket/a"):
                self.assertEqual((await client.ask(get(target, "0-9")))[2], b"")

        with tempfile.TemporaryDirectory() as directory:
            through_proxy(test, copies=Copies(pathlib.Path(directory)))
            self.assertEqual(list(pathlib.Path(directory).iterdir()), [])

    def test_a_reset_forgets_all_but_what_is_in_flight(self) -> None:
        stats = Stats()
        stats.change(1.0, 1)
        stats.change(2.0, 1)
        stats.read("/a", 0, 10)
        stats.reset(3.0)
        self.assertEqual((stats.in_flight, stats.in_flight_max, stats.spans), (2, 2, {}))
        stats.change(4.0, -1)
        self.assertEqual((stats.busy_seconds, stats.request_seconds), (1.0, 2.0))
        self.assertEqual(json.loads(json.dumps(stats.shown()))["in_flight"], 1)

    def test_a_union_of_spans(self) -> None:
        self.assertEqual(union_bytes([]), 0)
        self.assertEqual(union_bytes([(5, 10), (0, 3), (2, 6), (20, 21), (20, 21)]), 11)


if __name__ == "__main__":
    unittest.main()
