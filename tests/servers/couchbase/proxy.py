"""A proxy before the stand-in, which the cluster's map names to those who come through it."""

from __future__ import annotations

import asyncio
from asyncio import StreamReader

from tests.servers.couchbase.fixtures import CouchbaseServer
from tests.servers.message import http_message
from tests.servers.proxy import Proxy

_HEADER_SIZE = 24
_SIZE, _OPAQUE = slice(8, 12), slice(12, 16)


async def message(reader: StreamReader) -> bytes:
    """Return a whole request or answer of the key-value protocol, or of HTTP."""
    try:
        first = await reader.readexactly(1)
        if _is_text(first):
            return first + await http_message(reader)

        header = first + await reader.readexactly(_HEADER_SIZE - 1)
        return header + await reader.readexactly(int.from_bytes(header[_SIZE], "big"))
    except asyncio.IncompleteReadError:
        return b""


def _is_text(said: bytes) -> bool:
    return said[:1].isalpha()


class CouchbaseProxy(Proxy):
    """
    A proxy before the data service and the management service.

    A client does not stay with the address that it was given, but goes where the cluster's map
    says. So each proxy is a network of its own, with alternate addresses in that map, which a
    client takes that is told the network's name.

    :ivar url: for clients
    """

    def __init__(self, server: CouchbaseServer) -> None:
        ports = (server.port, server.management_port)
        super().__init__(*(("127.0.0.1", port) for port in ports), read=message)
        self._stand_in = server
        self._network = f"proxy{self.port}"
        self.url = f"{server.url(port=self.port)}?network={self._network}"
        server.advertise(self._network, **dict(zip(("kv", "mgmt"), self.ports, strict=True)))

    def is_answer(self, request: bytes, answer: bytes) -> bool:
        """Compare what the client has given a request to tell its answer by."""
        return _is_text(request) or request[_OPAQUE] == answer[_OPAQUE]

    def stop(self) -> None:
        """End the proxy."""
        self._stand_in.withdraw(self._network)
        super().stop()
