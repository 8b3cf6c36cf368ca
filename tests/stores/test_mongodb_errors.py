"""What the MongoDB store says when it cannot work, or is not given what it needs."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import anyio
import pytest
from pymongo import MongoClient
from pymongo.errors import PyMongoError

from aflamingock.exceptions import (
    AuditStoreConnectionError,
    AuditStoreError,
    AuditStorePermissionError,
    ConfigurationError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets import _mongodb as plumbing
from aflamingock.targets.mongodb import MongoDBTargetSystem
from aflamingock.testing._log import chain
from tests.servers.mongodb import ADMIN, failing
from tests.stores import mongodb as kit
from tests.stores.kit import ENTRIES, FIRST, check_that_it_must_be_open, last_numbers

client = kit.client
store = kit.store
impatient = kit.impatient

CALLS = (
    lambda store: store.create(),
    lambda store: store.last("shop", 1),
    lambda store: store.append(ENTRIES),
    lambda store: store.swap_record(None, FIRST),
)


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
async def test_an_unreachable_server_is_told(connect, impatient, call):
    store = MongoDBAuditStore(connect("mongodb://me:secret@127.0.0.1:1/?replicaSet=rs0"), "audit")
    async with store:
        with pytest.raises(
            AuditStoreConnectionError,
            match=r"Unable to connect to audit store: .*'audit' \(127\.0\.0\.1:\d+\).* Verify",
        ) as error:
            await call(store)

    assert isinstance(error.value.__cause__, PyMongoError)
    assert "secret" not in str(error.value)


def test_an_unreachable_server_is_waited_for_less_than_15_seconds():
    assert 5 <= plumbing.PATIENCE <= 12


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
async def test_a_wrong_password_is_told(connect, guarded_mongodb, call):
    store = MongoDBAuditStore(connect(guarded_mongodb.url(ADMIN[0], "wr:ng")), "audit")
    async with store:
        with pytest.raises(
            AuditStoreConnectionError,
            match="Unable to connect to audit store: .* not accept the user or the password",
        ) as error:
            await call(store)

    assert "wr" not in str(error.value)


async def test_a_client_without_a_user_is_told(connect, guarded_mongodb):
    async with MongoDBAuditStore(connect(guarded_mongodb.url()), "audit") as store:
        with pytest.raises(AuditStoreConnectionError, match="asks for a user and a password"):
            await store.last("shop", 1)


@pytest.mark.parametrize("call", CALLS, ids=range(len(CALLS)))
async def test_a_missing_right_is_told(connect, guarded_mongodb, call):
    with guarded_mongodb.client(*ADMIN) as admin:
        with suppress(PyMongoError):
            admin.admin.command("dropUser", "guest")

        admin.admin.command("createUser", "guest", pwd="p", roles=[{"role": "read", "db": "x"}])

    async with MongoDBAuditStore(connect(guarded_mongodb.url("guest", "p")), "audit") as store:
        with pytest.raises(
            AuditStorePermissionError,
            match=r"Insufficient permissions to create collections/tables: .*permissions\(\)",
        ):
            await call(store)


LOST, STEPPED_DOWN = {"closeConnection": True}, {"errorCode": 91}

NOTHING_WRITTEN = STEPPED_DOWN | {"errorLabels": ["NoWritesPerformed", "RetryableWriteError"]}


@pytest.mark.parametrize(
    ("failure", "error"),
    [
        (LOST, UnknownOutcomeError),
        (STEPPED_DOWN, UnknownOutcomeError),
        (NOTHING_WRITTEN, SystemBusyError),
    ],
)
@pytest.mark.parametrize("command", ["insert", "update"])
async def test_a_write_that_fails_again_and_again_is_told(
    store, mongodb_url, impatient, command, failure, error
):
    call = store.append(ENTRIES) if command == "insert" else store.swap_record(None, FIRST)
    with (
        failing(mongodb_url, command, times=9999, **failure),
        pytest.raises(error, match="nothing was done|may or may not have been done"),
    ):
        await call


@pytest.mark.parametrize("failure", [LOST, STEPPED_DOWN])
async def test_a_read_that_fails_again_and_again_is_busy(store, mongodb_url, impatient, failure):
    with failing(mongodb_url, "find", times=9999, **failure), pytest.raises(SystemBusyError):
        await last_numbers(store)


@pytest.mark.parametrize("entries", [ENTRIES[:1], ENTRIES])
async def test_a_majority_that_does_not_answer_is_told(store, mongodb_url, entries):
    with (
        failing(mongodb_url, "insert", writeConcernError={"code": 64, "errmsg": "late"}),
        pytest.raises(UnknownOutcomeError),
    ):
        await store.append(entries)

    with anyio.fail_after(10):
        while len(await last_numbers(store)) < len(entries):  # noqa: ASYNC110 - the server's event
            await anyio.sleep(0.01)


async def test_a_single_failure_of_the_network_is_not_noticed(store, mongodb_url):
    with failing(mongodb_url, "insert", closeConnection=True):
        await store.append(ENTRIES)

    with failing(mongodb_url, "find", closeConnection=True):
        assert await last_numbers(store) == [3, 2, 1]


async def test_a_refusal_is_told_without_values(store, mongodb_url):
    with (
        failing(mongodb_url, "insert", errorCode=2),
        pytest.raises(AuditStoreError, match="refused: BadValue"),
    ):
        await store.append(ENTRIES[:1])

    with pytest.raises(AuditStoreError, match="refused: DocumentTooLarge"):
        await store.append(chain(1, error_trace="x" * 17_000_000))


@pytest.mark.parametrize(
    "url",
    [
        "postgresql://me:se/cret@host/db",
        "mongodb://me:se/cret@host",
        "mongodb://me:secret@host:port",
        "mongodb://me:secret@host/?tls=true&tlsCAFile=/missing",
        "",
    ],
)
def test_what_is_no_url_is_refused_without_repeating_it(url):
    with pytest.raises(ConfigurationError, match="no URL of MongoDB") as error:
        MongoDBAuditStore.from_url(url, "audit")

    assert "cret" not in str(error.value)
    assert error.value.__suppress_context__


@pytest.mark.parametrize("name", ["", "a b", "a.b", "a$b", "x" * 64, "a/b", "a\0"])
def test_an_odd_name_of_a_database_is_refused(name):
    with pytest.raises(ConfigurationError, match="database"):
        MongoDBAuditStore.from_url("mongodb://localhost", name)


@pytest.mark.parametrize("name", ["", "a-b", "a.b", "a$b", "a" * 56, "flamingockLock"])
def test_an_odd_name_of_a_repository_is_refused(name):
    with pytest.raises(ConfigurationError, match="repositor"):
        MongoDBAuditStore.from_url("mongodb://localhost", "x", audit_repository_name=name)


async def test_the_markers_and_the_log_cannot_have_one_name(client):
    target = MongoDBTargetSystem("db", client, "x", marker_repository_name="flamingockIssues")
    with pytest.raises(ConfigurationError, match="different names"):
        MongoDBAuditStore.from_target_system(target)


def test_a_client_of_another_kind_is_refused():
    with (
        MongoClient[dict[str, Any]]("mongodb://localhost", connect=False) as client,
        pytest.raises(ConfigurationError, match="Give an AsyncMongoClient"),
    ):
        MongoDBAuditStore(client, "x")  # type: ignore[arg-type]  # a wrong argument is the test


async def test_it_must_be_open(client):
    store = MongoDBAuditStore(client, "audit")
    assert repr(store) == "MongoDBAuditStore('audit')"
    await check_that_it_must_be_open(store)
