"""DynamoDB for the tests: an emulator on this machine."""

from __future__ import annotations

import copy
import json
import os
import re
import subprocess
import sys
import threading
import urllib.request
from collections.abc import Iterator, Mapping
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from uuid import uuid4

import aioboto3  # type: ignore[import-untyped]  # aioboto3 has no types
import boto3  # type: ignore[import-untyped]  # boto3 has no types
import pytest

from tests.servers import give_up
from tests.servers.dynamodb_proxy import DynamoDBProxy

_URL = "AFLAMINGOCK_TEST_DYNAMODB_URL"
_SERVERS = pytest.StashKey[dict[str, "DynamoDBServer"]]()

_CODES = {
    "AccessDenied": "AccessDeniedException",
    "InvalidClientTokenId": "UnrecognizedClientException",
    "SignatureDoesNotMatch": "InvalidSignatureException",
}

REGION = "eu-west-1"
KEYS = {"aws_access_key_id": "test", "aws_secret_access_key": "test", "region_name": REGION}


class DynamoDBServer:
    """
    The emulator moto on a free port of this machine.

    It ends with :meth:`stop`, and at the latest with this process, however that ends: its
    standard input is closed then.
    """

    def __init__(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "tests.servers.dynamodb"],
            cwd=Path(__file__).parents[2],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        assert self._process.stdout is not None
        port = self._process.stdout.readline().strip()
        if not port:
            self.stop()
            raise RuntimeError("moto did not start.")

        self.url = f"http://127.0.0.1:{port}"
        self._admin: Mapping[str, str] = {}

    def check_rights(self) -> None:
        """Let only those in from now on who have a key, and do only what they may."""
        iam = boto3.client("iam", endpoint_url=self.url, **KEYS)
        self._admin = _new_user(iam, "admin", {"Effect": "Allow", "Action": "*", "Resource": "*"})
        request = urllib.request.Request(
            f"{self.url}/moto-api/reset-auth", b"0", {"Content-Type": "text/plain"}
        )
        with urllib.request.urlopen(request):
            pass

    def new_keys(self, statement: object = None) -> Mapping[str, str]:
        """Return the settings of a new user's session, who may do what a statement allows."""
        iam = boto3.client("iam", endpoint_url=self.url, **self._admin)
        return _new_user(iam, f"user-{uuid4().hex}", statement)

    def stop(self) -> None:
        """End the server."""
        self._process.kill()
        self._process.communicate()


def _new_user(iam: Any, name: str, statement: Any) -> Mapping[str, str]:
    iam.create_user(UserName=name)
    if statement:
        document = json.dumps({"Version": "2012-10-17", "Statement": statement})
        iam.put_user_policy(UserName=name, PolicyName="policy", PolicyDocument=document)

    key = iam.create_access_key(UserName=name)["AccessKey"]
    return {
        "aws_access_key_id": key["AccessKeyId"],
        "aws_secret_access_key": key["SecretAccessKey"],
        "region_name": REGION,
    }


def _serve() -> None:
    from moto.dynamodb.models.table import Table
    from moto.moto_server.werkzeug_app import (
        DomainDispatcherApplication,
        MotoRequestHandler,
        create_backend_app,
    )
    from werkzeug.serving import make_server

    application: Any = DomainDispatcherApplication(create_backend_app)
    turn = threading.Lock()
    copies: dict[int, Any] = {}

    def copy_once(table: Any, memo: dict[int, Any]) -> Any:
        # moto copies a table once for each item of a transaction, before the first of them
        if id(table) not in copies:
            copied = copies[id(table)] = object.__new__(type(table))
            vars(copied).update(copy.deepcopy(vars(table), memo))

        return copies[id(table)]

    def one_at_a_time(environ: Any, start_response: Any) -> Any:
        # A transaction of moto's that fails puts back whole tables as they were before it.
        with turn:
            copies.clear()
            return list(_with_codes(application, environ, start_response))

    Table.__deepcopy__ = copy_once  # type: ignore[attr-defined]  # a hook of Python's own
    server = make_server(
        "127.0.0.1", 0, one_at_a_time, threaded=True, request_handler=MotoRequestHandler
    )
    threading.Thread(target=server.serve_forever, daemon=True).start()
    print(server.server_port, flush=True)
    sys.stdin.read()


def _with_codes(application: Any, environ: Any, start_response: Any) -> Any:
    """Call *application*; who is refused for his rights is told in JSON, as DynamoDB does it."""
    began: list[tuple[str, Any]] = []
    content = b"".join(application(environ, lambda *began_with: began.append(began_with)))
    [(status, headers)] = began
    code = re.search(rb"<Code>(\w+)</Code>", content) if status.startswith("403") else None
    if code is None:
        start_response(status, headers)
        return [content]

    kind = _CODES[code[1].decode()]
    start_response("400 BAD REQUEST", [("Content-Type", "application/x-amz-json-1.0")])
    return [json.dumps({"__type": f"com.amazon.coral.service#{kind}", "message": ""}).encode()]


def _server(config: pytest.Config, name: str) -> tuple[DynamoDBServer, bool]:
    """Return the one server of that name in this process, and whether it is new."""
    servers = config.stash.setdefault(_SERVERS, {})
    if name in servers:
        return servers[name], False

    if find_spec("moto") is None or find_spec("werkzeug") is None:
        give_up("no emulator of DynamoDB was found: install moto[dynamodb,server]")

    server = servers[name] = DynamoDBServer()
    config.add_cleanup(server.stop)
    return server, True


@pytest.fixture
def dynamodb_url(request: pytest.FixtureRequest) -> str:
    """The URL of an endpoint."""
    return os.environ.get(_URL) or _server(request.config, "open")[0].url


@pytest.fixture
def dynamodb_session() -> Any:
    """A session that may do everything; a server of one's own may need other keys."""
    is_own = _URL in os.environ and "AWS_ACCESS_KEY_ID" in os.environ
    return aioboto3.Session() if is_own else aioboto3.Session(**KEYS)


@pytest.fixture
def dynamodb_client(dynamodb_url: str) -> Any:
    """A synchronous client, to look at the tables with and to prepare them."""
    is_own = _URL in os.environ and "AWS_ACCESS_KEY_ID" in os.environ
    return boto3.client("dynamodb", endpoint_url=dynamodb_url, **({} if is_own else KEYS))


@pytest.fixture
def dynamodb_prefix(dynamodb_client: Any) -> Iterator[str]:
    """The beginning of the names of the test's own tables, which are deleted after it."""
    prefix = f"test-{uuid4().hex[:16]}-"
    yield prefix
    delete_tables(dynamodb_client, prefix)


def delete_tables(client: Any, prefix: str) -> None:
    """Delete the tables whose names begin so."""
    for page in client.get_paginator("list_tables").paginate():
        for name in page["TableNames"]:
            if name.startswith(prefix):
                client.delete_table(TableName=name)


@pytest.fixture
def guarded_dynamodb(request: pytest.FixtureRequest) -> DynamoDBServer:
    """A server that checks rights."""
    server, is_new = _server(request.config, "guarded")
    if is_new:
        server.check_rights()

    return server


@pytest.fixture
def dynamodb_proxy(dynamodb_url: str) -> Iterator[DynamoDBProxy]:
    """A proxy before the endpoint, without faults at first."""
    proxy = DynamoDBProxy(dynamodb_url)
    yield proxy
    proxy.stop()


if __name__ == "__main__":
    _serve()
