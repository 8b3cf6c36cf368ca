"""The management service: scopes and collections, and what the tests want of the server."""

from __future__ import annotations

import asyncio
import json
from base64 import b64decode
from contextlib import suppress
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qs, unquote

from tests.servers.couchbase.cluster import Bucket, Cluster, Fault
from tests.servers.couchbase.wire import Refusal

_BUCKETS = ("pools", "default", "buckets")


class ManagementError(Exception):
    """A request is answered with an error."""

    def __init__(self, status: HTTPStatus, message: str, field: str = "_") -> None:
        super().__init__(message)
        self.status = status
        self.body = {"errors": {field: message}}


class ManagementConnection:
    """One client."""

    def __init__(
        self, cluster: Cluster, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._cluster = cluster
        self._reader = reader
        self._writer = writer

    async def serve(self) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while line := await self._reader.readline():
                method, target, _ = line.decode().split()
                headers = await self._headers()
                size = int(headers.get("content-length", 0))
                body = (await self._reader.readexactly(size)).decode()
                status, answer = self._answer(method, target, headers, body)
                content = json.dumps(answer).encode()
                self._writer.write(
                    f"HTTP/1.1 {status.value} {status.phrase}\r\n"
                    f"Content-Type: application/json\r\n"
                    f"Content-Length: {len(content)}\r\n\r\n".encode()
                    + content
                )
                await self._writer.drain()

        self._writer.close()

    async def _headers(self) -> dict[str, str]:
        headers = {}
        while line := (await self._reader.readline()).strip():
            name, _, value = line.decode().partition(":")
            headers[name.strip().lower()] = value.strip()

        return headers

    def _answer(
        self, method: str, target: str, headers: dict[str, str], body: str
    ) -> tuple[HTTPStatus, Any]:
        path = [unquote(part) for part in target.partition("?")[0].strip("/").split("/")]
        if path[0] == "tests":
            return HTTPStatus.OK, self._serve_tests(path[1], body)

        self._cluster.calls.append((f"HTTP_{method}", target, False))
        try:
            user = self._user(headers)
            if not self._cluster.may_manage(user, look=method == "GET"):
                raise ManagementError(HTTPStatus.FORBIDDEN, "Forbidden. User needs permissions")

            return HTTPStatus.OK, self._manage(method, path, parse_qs(body))
        except ManagementError as error:
            return error.status, error.body
        except Refusal:
            return HTTPStatus.NOT_FOUND, "Requested resource not found."

    def _user(self, headers: dict[str, str]) -> str:
        given = b64decode(headers.get("authorization", "").removeprefix("Basic ")).decode()
        name, _, password = given.partition(":")
        if self._cluster.passwords.get(name) != password:
            raise ManagementError(HTTPStatus.UNAUTHORIZED, "Unauthorized")

        return name

    def _manage(self, method: str, path: list[str], form: dict[str, list[str]]) -> Any:
        if tuple(path[:3]) != _BUCKETS or len(path) < 5 or path[4] != "scopes":
            raise ManagementError(HTTPStatus.NOT_FOUND, "Not found.")

        bucket, rest = self._cluster.bucket(path[3]), path[5:]
        if method == "GET":
            return bucket.manifest()

        if method == "POST" and not rest:
            _create_scope(bucket, form["name"][0])
        elif method == "POST":
            number = _create_collection(bucket, rest[0], form["name"][0])
            bucket.lifetimes[number] = int(form.get("maxTTL", ["0"])[0])
        else:
            _drop(bucket, *rest[::2])

        return {"uid": f"{bucket.changes:x}"}

    def _serve_tests(self, what: str, body: str) -> Any:
        if what == "fail":
            self._cluster.faults.append(Fault(**json.loads(body)))
        elif what == "heal":
            self._cluster.faults.clear()
        elif what == "forget":
            self._cluster.calls.clear()
        elif what == "address":
            name, ports = json.loads(body)
            self._cluster.addresses[name] = {"hostname": "127.0.0.1", "ports": ports}
        elif what == "withdraw":
            del self._cluster.addresses[json.loads(body)]
        elif what == "keys":
            bucket, scope, name = json.loads(body)
            documents, collection = self._cluster.bucket(bucket), f"{scope}.{name}"
            return documents.documents.keys(documents.collection(collection))

        return self._cluster.calls


def _create_scope(bucket: Bucket, name: str) -> None:
    if name in bucket.scopes:
        message = f'Scope with name "{name}" already exists'
        raise ManagementError(HTTPStatus.BAD_REQUEST, message, "name")

    bucket.scopes[name] = {}
    bucket.identities[name] = bucket.next_id()


def _create_collection(bucket: Bucket, scope: str, name: str) -> int:
    _require_scope(bucket, scope)
    if name in bucket.scopes[scope]:
        message = f'Collection with name "{name}" in scope "{scope}" already exists'
        raise ManagementError(HTTPStatus.BAD_REQUEST, message, "name")

    bucket.scopes[scope][name] = bucket.next_id()
    return bucket.scopes[scope][name]


def _drop(bucket: Bucket, scope: str, name: str | None = None) -> None:
    _require_scope(bucket, scope)
    if name is not None and name not in bucket.scopes[scope]:
        message = f'Collection with name "{name}" in scope "{scope}" is not found'
        raise ManagementError(HTTPStatus.NOT_FOUND, message)

    for collection in [name] if name else list(bucket.scopes[scope]):
        bucket.documents.drop(bucket.scopes[scope].pop(collection))

    if name is None:
        del bucket.scopes[scope]

    bucket.changes += 1


def _require_scope(bucket: Bucket, scope: str) -> None:
    if scope not in bucket.scopes:
        raise ManagementError(HTTPStatus.NOT_FOUND, f'Scope with name "{scope}" is not found')
