"""A proxy before DynamoDB, which speaks its language."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Mapping
from typing import Any
from urllib.parse import urlsplit

from tests.servers.message import http_message
from tests.servers.proxy import Exchange, Fault, Proxy

_OPERATION = re.compile(rb"(?i)\r\nx-amz-target: *\w+\.(\w+)")


def error(code: str, *, status: int = 400, **body: Any) -> Fault:
    """Return a fault: the call is not passed on, but answered with an error."""
    kind = f"com.amazonaws.dynamodb.v20120810#{code}"
    return answered({"__type": kind, "message": "As planned.", **body}, status=status)


def cancelled(*codes: str) -> Fault:
    """Return a fault: a transaction is cancelled, with a reason for each of its items."""
    reasons = [{"Code": code, "Message": "As planned."} for code in codes]
    return error("TransactionCanceledException", CancellationReasons=reasons)


def answered(body: Mapping[str, Any], *, status: int = 200) -> Fault:
    """Return a fault: the call is not passed on, but answered with this."""

    async def fault(exchange: Exchange) -> None:
        await exchange.reply(
            _message(b"HTTP/1.1 %d As planned" % status, json.dumps(body).encode())
        )

    return fault


def changed(change: Callable[[bytes], bytes]) -> Fault:
    """Return a fault: the call is passed on, and the body of its answer is changed."""

    async def fault(exchange: Exchange) -> None:
        head, _, body = (await exchange.answer()).partition(b"\r\n\r\n")
        await exchange.reply(_message(head.split(b"\r\n")[0], change(body)))

    return fault


def _message(status: bytes, body: bytes) -> bytes:
    head = b"%s\r\nContent-Type: application/x-amz-json-1.0\r\nContent-Length: %d\r\n\r\n"
    return head % (status, len(body)) + body


class DynamoDBProxy(Proxy):
    """A proxy that knows operations; faults are planned by their names."""

    def __init__(self, url: str) -> None:
        server = urlsplit(url)
        super().__init__((server.hostname or "", server.port or 80), read=http_message)
        self.url = f"http://127.0.0.1:{self.port}"

    @property
    def calls(self) -> list[str]:
        """The operations that came in."""
        found = map(_OPERATION.search, self.requests)
        return [operation[1].decode() for operation in found if operation]
