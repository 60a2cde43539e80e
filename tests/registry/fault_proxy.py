#!/usr/bin/env python3
"""A TCP proxy before a registry that harms answers at chosen bytes of their bodies, and knows what it delivered.

    fault_proxy.py --listen PORT --to PORT [FAULT...]     prints the port on its first line, then one line of JSON a request
        --cut 1M-8M      end the connection after each random number of body bytes in that range; also --reset, --stall, --flip
        --seed N         of the random numbers; printed if not given
        --rate 100M      bits a second of all connections together        --latency 50   milliseconds a round trip
        --piece 1        send bodies in pieces of so many bytes

Plain HTTP/1.1 is followed; a connection that begins as TLS is one answer of unknown length (method TLS)."""
import argparse
import asyncio
import collections
import fcntl
import json
import random
import re
import socket
import struct
import sys
import termios
import threading
import time

LIMIT = 1 << 18


class fault:
    """Harms the answer to a request: the `nth` of those whose "METHOD path" matches `match` and whose status is among
    `statuses` (None: each), `times` times, after `at` bytes of its body, or before its head if `at` is None. `action`: cut
    (FIN), reset (RST), stall (keeps the connection and sends nothing more), flip (one bit of that byte)."""

    def __init__(self, action, at=0, match=r"^GET .*/blobs/", nth=None, times=1, statuses=(0, 200, 206)):
        assert action in ("cut", "reset", "stall", "flip"), action
        self.action, self.at, self.match, self.nth, self.times = action, at, re.compile(match), nth, times
        self.statuses, self._seen = statuses, 0

    def applies(self, entry):
        """Asked once for each answer, in order."""
        if not self.match.search(f"{entry.method} {entry.path}") or entry.status not in self.statuses:
            return False
        self._seen += 1
        return self.times > 0 and self.nth in (None, self._seen)


class random_faults:
    """One of `actions` each `low` to `high` body bytes of all blobs together."""

    def __init__(self, low, high, seed, actions=("cut",)):
        self.low, self.high, self.actions, self._random = low, high, actions, random.Random(seed)
        self._next()

    def _next(self):
        self.left, self.action = self._random.randint(self.low, self.high), self._random.choice(self.actions)

    def within(self, count):
        """(offset, action) if one is due within the next `count` bytes, which then have been counted up to it."""
        if self.left > count:
            self.left -= count
            return None
        found = self.left, self.action
        self._next()
        return found


class exchange_entry:
    """One request. `sent`: body bytes that were sent; after a cut or reset, the client's kernel has them.
    `first`: where in the blob they begin."""

    def __init__(self, number, connection, method, path, asked):
        self.number, self.connection, self.method, self.path, self.range = number, connection, method, path, asked
        self.status, self.first, self.sent, self.fault, self.done = 0, 0, 0, None, False

    def __repr__(self):
        return json.dumps(vars(self))


def blob_of(path):
    found = re.search(r"/blobs/(sha\d+:[0-9a-f]+)", path)
    return found[1] if found else None


def asked_again(log):
    """[(digest, begin, end, number of the request)] of bytes that the client already had when it asked for them again."""
    had, found = collections.defaultdict(list), []
    for entry in log:
        blob = blob_of(entry.path)
        if blob is None or entry.method != "GET":
            continue
        asked = re.fullmatch(r"bytes=(\d+)-(\d*)", entry.range or "bytes=0-")
        begin, end = (int(asked[1]), int(asked[2]) + 1 if asked[2] else sys.maxsize) if asked else (0, sys.maxsize)
        found += [(blob, max(begin, low), min(end, high), entry.number) for low, high in had[blob]
                  if max(begin, low) < min(end, high)]
        if entry.status in (200, 206) and entry.sent:
            had[blob].append((entry.first, entry.first + entry.sent))
    return found


class link:
    """The line to the client: a rate in bytes a second for all connections, and a latency in seconds. `last_byte`: when
    something was sent last, by time.monotonic()."""

    def __init__(self, rate=None, latency=0.0):
        self.rate, self.latency, self.last_byte, self._free_at = rate, latency, None, 0.0

    async def pass_bytes(self, count):
        if self.rate:
            now = time.monotonic()
            self._free_at = max(self._free_at, now - 0.05) + count / self.rate  # what 50 ms too late missed is made up
            if self._free_at > now:
                await asyncio.sleep(self._free_at - now)


class delayed_writer:
    """Sends to the client, each piece `latency` after it was given, at the rate of the line, in pieces of `piece` bytes."""

    def __init__(self, writer, line, piece):
        self._writer, self._line, self._piece, self._queue = writer, line, piece, asyncio.Queue(64)
        self._failed = None
        self.socket = writer.get_extra_info("socket")
        self.socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        writer.transport.set_write_buffer_limits(0 if piece else LIMIT)  # pieces are not merged
        self._task = asyncio.create_task(self._run())

    async def send(self, data, sent=lambda count: None, body=True):
        if self._failed:
            raise self._failed
        await self._queue.put((time.monotonic() + self._line.latency, data, sent, body))

    async def flush(self):
        await self._queue.put(None)
        await self._task
        if self._failed:
            raise self._failed

    async def _run(self):
        while (item := await self._queue.get()) is not None:
            try:
                await self._send(*item)
            except OSError as problem:
                self._failed = problem  # the client is gone: the rest is taken and thrown away

    async def _send(self, due, data, sent, body):
        if self._failed:
            return
        if (wait := due - time.monotonic()) > 0:
            await asyncio.sleep(wait)
        step = self._piece if self._piece and body else 1 << 16 if self._line.rate else len(data) or 1
        for at in range(0, len(data), step):
            part = data[at:at + step]
            await self._line.pass_bytes(len(part))
            self._writer.write(part)
            await self._writer.drain()
            self._line.last_byte = time.monotonic()
            sent(len(part))

    def unacknowledged(self):
        """Bytes that the client's kernel does not have yet."""
        count = struct.unpack("i", fcntl.ioctl(self.socket.fileno(), termios.TIOCOUTQ, bytes(4)))[0]
        return count + self._writer.transport.get_write_buffer_size()

    async def stop(self):
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)


class harmed(Exception):
    """The connection ends by a fault."""


class fault_proxy:
    """Runs in a thread of its own for as long as a `with` lasts; `port` is where it listens, `log` a list of exchange_entry
    in the order of the requests."""

    def __init__(self, to, faults=(), at_random=None, rate=None, latency=0.0, piece=None, listen=0, host="127.0.0.1"):
        self.to, self.faults, self.at_random, self.piece, self.listen = to, list(faults), at_random, piece, listen
        self.host, self.line, self.log, self.port = host, link(rate, latency), [], None
        self.on_entry = lambda entry: None
        self._connections, self._loop, self._ready = 0, None, threading.Event()

    def __enter__(self):
        self._thread = threading.Thread(target=lambda: asyncio.run(self.serve()), daemon=True)
        self._thread.start()
        if not self._ready.wait(10):
            raise RuntimeError("the fault proxy does not start")
        return self

    def __exit__(self, *_):
        self._loop.call_soon_threadsafe(self._end.set)
        self._thread.join(10)

    async def serve(self):
        self._loop, self._end, self._tasks = asyncio.get_running_loop(), asyncio.Event(), set()
        server = await asyncio.start_server(self._accept, self.host, self.listen, limit=4 * LIMIT)
        self.port = server.sockets[0].getsockname()[1]
        self._ready.set()
        await self._end.wait()
        server.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _accept(self, reader, writer):
        self._tasks.add(task := asyncio.current_task())
        self._connections += 1
        try:
            await self._connection(self._connections, reader, writer)
        except (OSError, asyncio.IncompleteReadError, harmed):
            pass
        except asyncio.CancelledError:
            pass  # the end of the proxy
        finally:
            writer.close()
            self._tasks.discard(task)

    async def _connection(self, number, reader, writer):
        await asyncio.sleep(self.line.latency)  # of the handshake
        up_reader, up_writer = await asyncio.open_connection("127.0.0.1", self.to, limit=4 * LIMIT)
        out = delayed_writer(writer, self.line, self.piece)
        try:
            start = await reader.read(1)
            if start == b"\x16":
                await self._opaque(number, start, reader, up_reader, up_writer, out)
            while start != b"\x16" and await self._exchange(number, start, reader, up_reader, up_writer, out):
                start = b""
            await out.flush()
        finally:
            await out.stop()
            up_writer.close()

    async def _opaque(self, number, start, reader, up_reader, up_writer, out):
        entry = self._entry(number, "TLS", "/blobs/", None)

        async def forward():
            data = start
            while data:
                up_writer.write(data)
                await up_writer.drain()
                data = await reader.read(LIMIT)
            up_writer.write_eof()

        forwarding = asyncio.create_task(forward())
        try:
            await self._body(entry, self._chosen(entry), up_reader, None, out)
        finally:
            forwarding.cancel()

    def _entry(self, connection, method, path, asked):
        entry = exchange_entry(len(self.log) + 1, connection, method, path, asked)
        self.log.append(entry)
        return entry

    def _chosen(self, entry):
        chosen = next(iter([one for one in self.faults if one.applies(entry)]), None)  # each counts the answer
        if chosen:
            chosen.times -= 1
        return chosen

    async def _exchange(self, number, start, reader, up_reader, up_writer, out):
        """One request and its answer; whether the connection goes on."""
        try:
            head = start + await reader.readuntil(b"\r\n\r\n")
        except asyncio.IncompleteReadError:
            return False
        method, path, version = head.split(b"\r\n", 1)[0].decode("latin-1").split(" ", 2)
        entry = self._entry(number, method, path, field(head, "range"))
        up_writer.write(head)
        async for data in body_of(reader, head, default=0):
            up_writer.write(data)
            await up_writer.drain()
        while True:
            head = await up_reader.readuntil(b"\r\n\r\n")
            entry.status = int(head.split(b" ", 2)[1])
            if entry.status >= 200:
                break
            await out.send(head, body=False)
        chosen = self._chosen(entry)
        if chosen and chosen.at is None:
            await self._harm(entry, chosen.action, out)
        await out.send(head, body=False)
        if found := re.match(r"bytes (\d+)-", field(head, "content-range") or ""):
            entry.first = int(found[1])
        if method != "HEAD" and entry.status not in (204, 304):
            await self._body(entry, chosen, up_reader, head, out)
        elif chosen:
            await self._harm(entry, chosen.action, out)
        entry.done = True
        self.on_entry(entry)
        until_close = field(head, "content-length") is None and field(head, "transfer-encoding") is None
        bodiless = method == "HEAD" or entry.status in (204, 304)
        return "close" not in (field(head, "connection") or "").lower() and (bodiless or not until_close) and \
            version != "HTTP/1.0"

    async def _body(self, entry, chosen, up_reader, head, out):
        counted = self.at_random if entry.status in (0, 200, 206) and "/blobs/" in entry.path else None
        given = 0

        def sent(count):
            entry.sent += count

        async for data in body_of(up_reader, head, default=None):
            while data:
                here, action = len(data), None
                if chosen and given <= chosen.at <= given + here:
                    here, action = chosen.at - given, chosen.action
                if counted and (due := counted.within(here)):
                    here, action = due
                    counted = counted if action == "flip" else None
                if action == "flip":
                    if here < len(data):
                        data = data[:here] + bytes([data[here] ^ 1]) + data[here + 1:]
                        entry.fault, chosen = f"flip at {given + here}", None
                        here += 1
                    action = None
                await out.send(data[:here], sent)
                given, data = given + here, data[here:]
                if action:
                    await self._harm(entry, action, out)
        if chosen and chosen.at == 0 == given:
            await self._harm(entry, chosen.action, out)

    async def _harm(self, entry, action, out):
        entry.fault = action
        await out.flush()
        entry.fault = f"{action} after {entry.sent}"
        if action == "stall":
            self.on_entry(entry)
            await asyncio.Event().wait()  # until the test ends
        if action == "reset":  # what the client's kernel did not get is lost
            until = time.monotonic() + 2
            while out.unacknowledged() and time.monotonic() < until:
                await asyncio.sleep(0.002)
            entry.sent = max(0, entry.sent - out.unacknowledged())
            out.socket.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        self.on_entry(entry)
        raise harmed


def field(head, name):
    found = re.search(rb"(?im)^" + name.encode() + rb":[ \t]*([^\r\n]*)", head)
    return found[1].decode("latin-1").strip() if found else None


async def body_of(reader, head, default):
    """The bytes of a body as they are framed. `default` is its length if the head does not say; None: until the end."""
    if head and "chunked" in (field(head, "transfer-encoding") or "").lower():
        while True:
            line = await reader.readline()
            size = int(line.split(b";")[0], 16)
            yield line + await reader.readexactly(size + 2)
            if size == 0:
                return
    said = field(head, "content-length") if head else None
    left = int(said) if said is not None else default
    while left is None or left > 0:
        data = await reader.read(LIMIT if left is None else min(left, LIMIT))
        if not data:
            return
        left = None if left is None else left - len(data)
        yield data


def bytes_of(text):
    unit = {"K": 10, "M": 20, "G": 30}.get(text[-1:].upper())
    return int(float(text[:-1] if unit else text) * (1 << unit if unit else 1))


def main():
    options = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    options.add_argument("--listen", type=int, default=0)
    options.add_argument("--to", type=int, required=True)
    for action in ("cut", "reset", "stall", "flip"):
        options.add_argument(f"--{action}", metavar="LOW-HIGH")
    options.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    options.add_argument("--rate", help="bits a second, with K, M or G for powers of ten")
    options.add_argument("--latency", type=float, default=0)
    options.add_argument("--piece", type=int)
    given = options.parse_args()
    ranges = {action: getattr(given, action) for action in ("cut", "reset", "stall", "flip") if getattr(given, action)}
    rate = float(given.rate[:-1]) * {"K": 1e3, "M": 1e6, "G": 1e9}[given.rate[-1].upper()] / 8 if given.rate else None
    at_random = None
    if ranges:
        low, _, high = next(iter(ranges.values())).partition("-")
        at_random = random_faults(bytes_of(low), bytes_of(high or low), given.seed, tuple(ranges))
    proxy = fault_proxy(given.to, at_random=at_random, rate=rate, latency=given.latency / 1000, piece=given.piece,
                        listen=given.listen)
    proxy.on_entry = lambda entry: print(entry, flush=True)
    with proxy:
        print(proxy.port, flush=True)
        print(f"seed {given.seed}", file=sys.stderr, flush=True)
        try:
            threading.Event().wait()
        except KeyboardInterrupt:
            pass


if __name__ == "__main__":
    main()
