"""A proxy before a server, which delays, cuts, silences and loses what passes through it."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
from asyncio import StreamReader, StreamWriter
from collections import deque
from collections.abc import Awaitable, Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

from tests.servers import free_port
from tests.servers.message import LONGEST_PIECE, Read, chunk

Fault = Callable[["Exchange"], Awaitable[None]]
"""Given a request, passes it on and answers it, or not."""

_ANSWERED_WITHIN = 30.0
_RESET = struct.pack("ii", 1, 0)


class Exchange:
    """
    A request on its way to the server.

    :ivar request: what the client has said
    """

    def __init__(self, connection: _Connection, request: bytes) -> None:
        self.request = request
        self._connection = connection

    async def pass_on(self) -> None:
        """Let the server have the request; its answer goes the usual way."""
        await _send(self._connection.server, self.request)

    async def answer(self) -> bytes:
        """Let the server have the request, and return its answer, which the client does not get."""
        withheld: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._connection.withheld = withheld
        await self.pass_on()
        return await asyncio.wait_for(withheld, _ANSWERED_WITHIN)

    async def reply(self, answer: bytes) -> None:
        """Answer the client."""
        self._connection.withheld = None
        await _send(self._connection.client, answer)

    def cut(self) -> None:
        """Break the connection."""
        self._connection.end()

    def silence(self) -> None:
        """Let nothing through any more, in either direction, without breaking the connection."""
        self._connection.is_silent = True

    async def lose_answer(self) -> None:
        """Let the server carry out the request, and keep its answer."""
        await self.answer()
        self._connection.proxy.lost.append(self.request)


async def pass_on(exchange: Exchange) -> None:
    """Do nothing to a request."""
    await exchange.pass_on()


def delay(seconds: float) -> Fault:
    """Return a fault: the request comes late."""

    async def fault(exchange: Exchange) -> None:
        await asyncio.sleep(seconds)
        await exchange.pass_on()

    return fault


async def lost_call(exchange: Exchange) -> None:
    """Break the connection without passing the call on."""
    exchange.cut()


async def lost_answer(exchange: Exchange) -> None:
    """Pass the call on, and break the connection when the server has answered it."""
    await exchange.lose_answer()
    exchange.cut()


async def silent_call(exchange: Exchange) -> None:
    """Let the call, and whatever comes after it on this connection, disappear."""
    exchange.silence()


async def silent_answer(exchange: Exchange) -> None:
    """Pass the call on, and let its answer and whatever comes after it disappear."""
    await exchange.lose_answer()
    exchange.silence()


class Proxy:
    """
    Passes on what clients and servers say to each other, but for what faults are planned for.

    It runs in a thread of its own, and so serves any number of event loops.

    :param upstreams: the servers: host and port, or the path of a socket; each has a port here
    :param read: how to tell one request or answer from the next
    :ivar requests: those that came in
    :ivar lost: those of them that were carried out, and whose answers have not come through
    :ivar choose: gives a fault for a request that none is planned for
    :ivar ports: those that stand for the servers; *port* is the first
    :ivar linger: how long the server does not hear of a connection that is broken, in seconds
    """

    def __init__(self, *upstreams: tuple[str, int] | Path, read: Read = chunk) -> None:
        self.requests: list[bytes] = []
        self.lost: list[bytes] = []
        self.choose: Callable[[bytes], Fault] = lambda _: pass_on
        self.linger = 0.0
        self._upstreams = {free_port(): upstream for upstream in upstreams}
        self.port, *_ = self.ports = list(self._upstreams)
        self.read = read
        self._plans: list[tuple[re.Pattern[bytes], deque[Fault]]] = []
        self._connections: dict[_Connection, asyncio.Task[None]] = {}
        self._servers: list[asyncio.Server] = []
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy")
        self._thread.start()
        self._call(self._listen())

    def plan(self, pattern: str, *faults: Fault) -> None:
        """Let the next requests in which *pattern* is found have these faults, one each."""
        self._plans.append((re.compile(pattern.encode(), re.DOTALL), deque(faults)))

    def heal(self) -> None:
        """Forget all faults; connections that are silent are broken."""
        self._plans.clear()
        self.choose = lambda _: pass_on
        self._call(self._cut_silent())

    def refuse(self) -> None:
        """Break all connections, and refuse new ones."""
        self._call(self._refuse())

    def accept(self) -> None:
        """Accept connections again."""
        self._call(self._listen())

    def stop(self) -> None:
        """End the proxy."""
        self._call(self._refuse())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def fault_for(self, request: bytes) -> Fault:
        """Return what happens to a request."""
        self.requests.append(request)
        for pattern, faults in self._plans:
            if faults and pattern.search(request):
                return faults.popleft()

        return self.choose(request)

    async def connect(self, client: StreamWriter) -> tuple[StreamReader, StreamWriter]:
        """Connect to the server whose port a client has chosen."""
        upstream = self._upstreams[client.get_extra_info("sockname")[1]]
        if isinstance(upstream, Path):
            return await asyncio.open_unix_connection(upstream, limit=LONGEST_PIECE)

        return await asyncio.open_connection(*upstream, limit=LONGEST_PIECE)

    def _call(self, work: Any) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(_ANSWERED_WITHIN)

    async def _listen(self) -> None:
        for port in self.ports:
            listening = asyncio.start_server(self._serve, "127.0.0.1", port, limit=LONGEST_PIECE)
            self._servers.append(await listening)

    async def _refuse(self) -> None:
        while self._servers:
            self._servers.pop().close()

        for connection in self._connections:
            connection.end()

        await asyncio.gather(*self._connections.values())

    async def _cut_silent(self) -> None:
        for connection in self._connections:
            if connection.is_silent:
                connection.end()

    async def _serve(self, reader: StreamReader, client: StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        connection = _Connection(self, client)
        self._connections[connection] = task
        try:
            await connection.carry(reader)
        finally:
            del self._connections[connection]


class _Connection:
    """
    A client's connection and the one to the server that belongs to it.

    :ivar withheld: gets the answer to come in place of the client, which gets none any more
    """

    server: StreamWriter

    def __init__(self, proxy: Proxy, client: StreamWriter) -> None:
        self.proxy = proxy
        self.client = client
        self.is_silent = False
        self.withheld: asyncio.Future[bytes] | None = None
        self._over = asyncio.Event()

    def end(self) -> None:
        """Break the connection, and let the server hear of it, at once or later."""
        self._over.set()

    async def carry(self, client: StreamReader) -> None:
        """Pass on what both sides say until one of them ends."""
        try:
            server, self.server = await self.proxy.connect(self.client)
        except OSError:
            _reset(self.client)
            return

        tasks = [asyncio.create_task(work) for work in (self._ask(client), self._answer(server))]
        over = asyncio.create_task(self._over.wait())
        await asyncio.wait([*tasks, over], return_when=asyncio.FIRST_COMPLETED)
        was_cut = self._over.is_set()
        for task in (*tasks, over):
            task.cancel()

        await asyncio.gather(*tasks, over, return_exceptions=True)
        _reset(self.client)
        if was_cut and self.proxy.linger:
            await asyncio.sleep(self.proxy.linger)

        _reset(self.server)

    async def _ask(self, client: StreamReader) -> None:
        with suppress(OSError, TimeoutError):
            while request := await self.proxy.read(client):
                if not self.is_silent:
                    await self.proxy.fault_for(request)(Exchange(self, request))

    async def _answer(self, server: StreamReader) -> None:
        with suppress(OSError):
            while answer := await self.proxy.read(server):
                if self.withheld is None and not self.is_silent:
                    await _send(self.client, answer)
                elif self.withheld is not None and not self.withheld.done():
                    self.withheld.set_result(answer)

            # a half of the connection that is silent says nothing of the other half either
            if self.is_silent:
                await self._over.wait()


async def _send(writer: StreamWriter, data: bytes) -> None:
    writer.write(data)
    await writer.drain()


def _reset(writer: StreamWriter) -> None:
    """Close a connection as one does that knows nothing of it any more."""
    connection: socket.socket | None = writer.get_extra_info("socket")
    with suppress(OSError):
        if connection is not None and connection.family == socket.AF_INET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)

    writer.transport.abort()
