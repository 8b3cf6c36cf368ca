"""A proxy before DynamoDB that makes calls fail."""

from __future__ import annotations

import json
import threading
from collections import defaultdict, deque
from collections.abc import Callable
from contextlib import suppress
from http.client import HTTPConnection
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any
from urllib.parse import urlsplit

Fault = Callable[["_Handler", Callable[[], tuple[int, Any, bytes]]], None]
"""Given a request and what passes it on, answers it, or not."""


def error(code: str, *, status: int = 400, **body: Any) -> Fault:
    """Return a fault: the call is not passed on, but answered with an error."""

    def fault(handler: _Handler, forward: Callable[[], tuple[int, Any, bytes]]) -> None:
        kind = f"com.amazonaws.dynamodb.v20120810#{code}"
        content = json.dumps({"__type": kind, "message": "As planned.", **body}).encode()
        handler.reply(status, {"Content-Type": "application/x-amz-json-1.0"}, content)

    return fault


def cancelled(*codes: str) -> Fault:
    """Return a fault: a transaction is cancelled, with a reason for each of its items."""
    reasons = [{"Code": code, "Message": "As planned."} for code in codes]
    return error("TransactionCanceledException", CancellationReasons=reasons)


def lost_answer(handler: _Handler, forward: Callable[[], tuple[int, Any, bytes]]) -> None:
    """Pass the call on, and break the connection instead of answering it."""
    forward()
    handler.close_connection = True


def lost_call(handler: _Handler, forward: Callable[[], tuple[int, Any, bytes]]) -> None:
    """Break the connection without passing the call on."""
    handler.close_connection = True


class FaultyProxy:
    """
    Passes calls on to a server, but for those for which a fault is planned.

    :ivar calls: the operations that came in
    """

    def __init__(self, url: str) -> None:
        self.calls: list[str] = []
        self._faults: defaultdict[str, deque[Fault]] = defaultdict(deque)
        self._target = urlsplit(url).netloc
        self._server = ThreadingHTTPServer(("127.0.0.1", 0), _Handler)
        self._server.daemon_threads = True
        self._server.proxy = self  # type: ignore[attr-defined]  # for the handler
        self.url = f"http://127.0.0.1:{self._server.server_port}"
        self._thread = threading.Thread(target=self._server.serve_forever, args=(0.02,))
        self._thread.start()

    def plan(self, operation: str, *faults: Fault) -> None:
        """Let the next calls of an operation fail."""
        self._faults[operation].extend(faults)

    def heal(self) -> None:
        """Let no more calls fail."""
        self._faults.clear()

    def handle(self, handler: _Handler) -> None:
        """Answer a request."""
        body = handler.rfile.read(int(handler.headers["Content-Length"]))
        operation = handler.headers["X-Amz-Target"].rpartition(".")[2]
        self.calls.append(operation)

        def forward() -> tuple[int, Any, bytes]:
            connection = HTTPConnection(self._target, timeout=30)
            try:
                connection.request("POST", handler.path, body, dict(handler.headers))
                response = connection.getresponse()
                return response.status, response.headers, response.read()
            finally:
                connection.close()

        if self._faults[operation]:
            self._faults[operation].popleft()(handler, forward)
        else:
            handler.reply(*forward())

    def stop(self) -> None:
        """End the proxy."""
        self._server.shutdown()
        self._thread.join()
        self._server.server_close()


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_POST(self) -> None:
        self.server.proxy.handle(self)  # type: ignore[attr-defined]  # set by the proxy

    def reply(self, status: int, headers: Any, content: bytes) -> None:
        self.send_response(status)
        for name, value in headers.items():
            if name.lower().startswith(("content-type", "x-amz")):
                self.send_header(name, value)

        self.send_header("Content-Length", str(len(content)))
        with suppress(ConnectionError):  # who asked has given up meanwhile
            self.end_headers()
            self.wfile.write(content)

    def log_message(self, format: str, *args: object) -> None:
        """Say nothing."""
