"""The MongoDB target passes the suite with both drivers, and what is special about it."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta
from typing import Any

import anyio
import pytest
from pymongo import MongoClient
from pymongo.errors import DuplicateKeyError, OperationFailure, PyMongoError

from aflamingock import ChangeFailedError, Flamingock, InjectionError, change, run_changes
from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import (
    ConfigurationError,
    FlamingockError,
    LockLostError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets import _mongodb as plumbing
from aflamingock.targets import _mongodb_transaction as transactions
from aflamingock.targets.mongodb import MongoDBTargetSystem
from aflamingock.testing import TargetSystemSuite
from tests.servers.mongodb import ADMIN, failing


class TestMongoDBTargetSystem(TargetSystemSuite):
    @pytest.fixture
    def make_target(self, connect, mongodb_url, mongodb_name):
        # Two transactions that create one collection would be in each other's way.
        with MongoClient[dict[str, Any]](mongodb_url) as client:
            client[mongodb_name].create_collection("written")

        return lambda: MongoDBTargetSystem("db", connect(mongodb_url), mongodb_name)

    async def write(self, objects, value):
        await objects["db"].written.insert_one({"value": value}, session=objects["session"])

    async def read(self, objects):
        found = objects["db"].written.find(session=objects["session"])
        return [document["value"] for document in await found.to_list(None)]

    async def commit(self, objects):
        await objects["session"].commit_transaction()

    async def roll_back(self, objects):
        await objects["session"].abort_transaction()


@pytest.fixture
def client(connect, mongodb_url):
    return connect(mongodb_url)


@pytest.fixture
async def target(client, mongodb_url, mongodb_name):
    with MongoClient[dict[str, Any]](mongodb_url) as other:
        other[mongodb_name].t.insert_one({"_id": "seed"})

    async with MongoDBTargetSystem("db", client, mongodb_name) as target:
        yield target


@pytest.fixture
def impatient(monkeypatch):
    for module in (plumbing, transactions):
        monkeypatch.setattr(module, "PATIENCE", 1.0)


async def rows(target) -> list[Any]:
    async with target.handles() as objects:
        found = objects["db"].t.find({"_id": {"$ne": "seed"}}, sort=[("_id", 1)])
        return [document["_id"] for document in await found.to_list(None)]


async def insert(target, session, value) -> None:
    await target.objects(session)["db"].t.insert_one({"_id": value}, session=session)


async def test_what_is_offered_is_known_without_a_connection(connect):
    target = MongoDBTargetSystem("db", connect("mongodb://127.0.0.1:1"), "shop")
    database, session = target.offers()

    assert database.names == ("db", "database")
    assert database.type.__name__ in ("AsyncDatabase", "AsyncIOMotorDatabase")
    assert session.names == ("session",)
    assert session.type.__name__ in ("AsyncClientSession", "AsyncIOMotorClientSession")
    assert repr(target) == "MongoDBTargetSystem('db', 'shop')"


async def test_the_session_is_bound_where_the_driver_can(target):
    is_motor = plumbing.driver_of(target.client) == "motor"
    assert target.needs_session_parameter == is_motor
    with suppress(ZeroDivisionError):
        async with target.transaction() as session:
            await target.objects(session)["db"].t.insert_one({"_id": 1})
            raise ZeroDivisionError

    assert await rows(target) == ([1] if is_motor else [])
    await target.client[target.database_name].t.insert_one({"_id": 2})
    assert (await rows(target))[-1] == 2


@pytest.mark.parametrize(
    "end",
    [
        lambda session: session.commit_transaction(),
        lambda session: session.abort_transaction(),
        lambda session: session.start_transaction(),
        lambda session: session.with_transaction(lambda _: None),
        lambda session: session.end_session(),
    ],
)
async def test_a_change_cannot_end_the_transaction(target, end):
    async with target.transaction() as session:
        await insert(target, session, 1)
        with pytest.raises(FlamingockError, match="transactional=False"):
            await end(session)

    assert await rows(target) == [1]


async def test_a_transaction_that_was_ended_all_the_same_is_not_taken_for_committed(target):
    async def change(*, marker: bool) -> None:
        async with target.transaction() as session:
            await insert(target, session, 1)
            await type(session).abort_transaction(session)
            if marker:
                await target.insert_marker(session, "k", "c")

    for marker in (False, True):
        with pytest.raises(FlamingockError, match="was ended by the code in it"):
            await change(marker=marker)

    assert await rows(target) == []
    assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED


async def test_what_no_transaction_may_contain_fails_with_a_hint(target):
    with pytest.raises(OperationFailure) as error:
        async with target.transaction() as session:
            await target.objects(session)["db"].create_collection(
                "other", session=session, check_exists=False
            )

    assert "transactional=False" in error.value.__notes__[0]


async def test_other_errors_get_no_hint(target):
    with pytest.raises(DuplicateKeyError) as error:
        async with target.transaction() as session:
            await insert(target, session, "seed")

    assert not hasattr(error.value, "__notes__")


async def test_an_error_that_a_change_hides_is_not_taken_for_committed(target):
    async def change() -> None:
        async with target.transaction() as session:
            await insert(target, session, 1)
            with suppress(DuplicateKeyError):
                await insert(target, session, "seed")

    with pytest.raises(SystemBusyError, match="rolled back") as error:
        await change()

    cause = error.value.__cause__
    assert isinstance(cause, OperationFailure)
    assert "also one that the change has hidden" in cause.__notes__[0]
    assert await rows(target) == []


async def test_a_statement_on_its_way_when_the_change_is_cut_off_is_not_done(target):
    async def cancel(scope: anyio.CancelScope, delay: float) -> None:
        await anyio.sleep(delay)
        scope.cancel()

    for delay in (0, 0.0005, 0.002, 0.01):
        with anyio.CancelScope() as scope:
            async with anyio.create_task_group() as group, target.transaction() as session:
                group.start_soon(cancel, scope, delay)
                for value in range(100):
                    await insert(target, session, value)

                await anyio.sleep_forever()

        await anyio.sleep(0.1)
        assert await rows(target) == []


async def test_a_statement_that_waits_when_the_change_is_cut_off_is_not_done(
    connect, mongodb_url, mongodb_name
):
    client = connect(mongodb_url, maxPoolSize=1)
    begun = anyio.Event()

    async def occupy() -> None:
        await begun.wait()
        await client.admin.command("ping")

    with failing(mongodb_url, "ping", blockConnection=True, blockTimeMS=500):
        async with (
            MongoDBTargetSystem("db", client, mongodb_name) as target,
            anyio.create_task_group() as group,
        ):
            group.start_soon(occupy)
            with anyio.move_on_after(10) as scope:
                async with target.transaction() as session:
                    begun.set()
                    await anyio.sleep(0.1)
                    scope.deadline = anyio.current_time() + 0.1
                    await insert(target, session, 1)

            assert scope.cancelled_caught

        await anyio.sleep(0.1)
        async with target:
            assert await rows(target) == []


async def test_a_server_without_transactions_is_refused(connect, guarded_mongodb):
    client = connect(guarded_mongodb.url(*ADMIN))
    async with MongoDBTargetSystem("db", client, "shop") as target:
        assert not await target.supports_transactions()
        with pytest.raises(ConfigurationError, match=r"no transactions.*transactional=False"):
            async with target.transaction():
                pass

        async with target.handles() as objects:
            db: Any = objects["db"]
            await db.t.replace_one({"_id": 1}, {}, upsert=True)
            assert await db.t.count_documents({}) == 1

        assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED
        await target.remove_marker("k")


async def test_a_run_that_needs_transactions_asks_for_them_first(connect, guarded_mongodb):
    @change(id="a", author="tests", order="1")
    class First:
        async def execute(self) -> None:
            raise AssertionError("This must not be executed.")

    @change(id="b", author="tests", order="2", target_system="db")
    class Second:
        async def execute(self, db, session) -> None: ...

    target = MongoDBTargetSystem("db", connect(guarded_mongodb.url(*ADMIN)), "shop")
    with pytest.raises(ConfigurationError, match="replica set"):
        await run_changes([First, Second], audit_store=MemoryAuditStore(), target_systems=[target])


async def test_a_commit_is_tried_again(target, mongodb_url):
    assert await target.supports_transactions()
    with failing(mongodb_url, "commitTransaction", times=4, closeConnection=True):
        async with target.transaction() as session:
            await insert(target, session, 1)

    assert await rows(target) == [1]


async def test_a_commit_that_is_not_answered_is_of_unknown_outcome(target, mongodb_url, impatient):
    async def change() -> None:
        async with target.transaction() as session:
            await insert(target, session, 1)

    with (
        failing(mongodb_url, "commitTransaction", times=9999, closeConnection=True),
        pytest.raises(UnknownOutcomeError, match="may or may not have been done"),
    ):
        await change()

    # The transaction is not left open: what it has written is free at once.
    await change()
    assert await rows(target) == [1]


async def test_a_transaction_that_cannot_be_begun_is_busy(target, mongodb_url, impatient):
    if plumbing.driver_of(target.client) == "pymongo":
        pytest.skip("PyMongo begins it with the first statement")

    identity = await target.announce()
    with (
        failing(mongodb_url, "find", times=9999, closeConnection=True),
        pytest.raises(SystemBusyError, match="could not be begun, and nothing was done"),
    ):
        await target.announced(identity).__aenter__()

    # It is tried again on the same session, of which the log knows.
    async with target.announced(identity) as session:
        assert bytes(session.session_id["id"]).hex() == identity
        await insert(target, session, 1)

    assert await rows(target) == [1]


async def test_a_claim_after_the_beginning_wins(target):
    async def change() -> None:
        async with target.transaction() as session:
            await insert(target, session, 1)
            assert await target.claim_marker("k", "c") is MarkerOutcome.ABORTED
            await target.insert_marker(session, "k", "c")

    with pytest.raises(LockLostError, match="'c'"):
        await change()

    assert await rows(target) == []


async def test_a_marker_in_an_open_transaction_is_busy(target, impatient):
    await target.claim_marker("other", "c")
    async with target.transaction() as session:
        await target.insert_marker(session, "k", "c")
        with pytest.raises(SystemBusyError, match="a transaction of somebody else holds it"):
            await target.claim_marker("k", "c")

        with pytest.raises(SystemBusyError, match="nothing was done"):
            async with target.transaction() as second:
                await target.insert_marker(second, "k", "c")

    assert await target.claim_marker("k", "c") is MarkerOutcome.COMMITTED


async def test_tombstones_are_removed_after_a_day(target):
    for key in ("old", "young"):
        await target.claim_marker(key, "c")

    async with target.transaction() as session:
        await target.insert_marker(session, "committed", "c")

    markers = target.client[target.database_name].flamingockMarkers
    for key in ("old", "committed"):
        found = await markers.find_one({"_id": key})
        written = found["writtenAt"] - timedelta(minutes=1441)
        await markers.update_one({"_id": key}, {"$set": {"writtenAt": written}})

    await target.remove_marker("other")
    left = await markers.find({}, sort=[("_id", 1)]).to_list(None)
    assert [(marker["_id"], marker["outcome"]) for marker in left] == [
        ("committed", "COMMITTED"),
        ("young", "ABORTED"),
    ]


async def test_a_session_that_was_left_behind_can_be_ended(target, mongodb_url):
    with MongoClient[dict[str, Any]](mongodb_url) as other, other.start_session() as orphan:
        orphan.start_transaction()
        t = other[target.database_name].t
        t.update_one({"_id": "seed"}, {"$set": {"x": 1}}, session=orphan)

        async def change() -> None:
            async with target.transaction() as session:
                await target.objects(session)["db"].t.update_one(
                    {"_id": "seed"}, {"$set": {"x": 2}}, session=session
                )

        with pytest.raises(PyMongoError, match="WriteConflict|Write conflict"):
            await change()

        for _ in range(2):
            await target.end_orphan(bytes(orphan.session_id["id"]).hex())

        await change()
        assert t.find_one() == {"_id": "seed", "x": 2}
        with suppress(PyMongoError):
            orphan.abort_transaction()


async def test_a_transaction_runs_on_the_session_that_was_announced(target):
    first, second = await target.announce(), await target.announce()
    assert first != second
    async with target.announced(second) as session:
        assert bytes(session.session_id["id"]).hex() == second
        await insert(target, session, 1)
        await target.end_orphan(first)

    async with target.announced(first) as session:
        await insert(target, session, 2)
        await target.end_orphan(second)

    async def ended(identity: str) -> None:
        async with target.announced(identity) as session:
            await insert(target, session, 3)
            await target.end_orphan(identity)

    with pytest.raises(SystemBusyError, match="was rolled back"):
        await ended(await target.announce())

    async with target.announced(None) as session:
        await insert(target, session, 4)

    assert await rows(target) == [1, 2, 4]


async def test_what_was_announced_and_not_run_ends_with_the_target(target):
    sessions: list[Any] = []
    start = target._transactions._start

    async def noted() -> Any:
        sessions.append(await start())
        return sessions[-1]

    target._transactions._start = noted
    await target.announce()
    async with target.announced(await target.announce()):
        pass

    assert [session.has_ended for session in sessions] == [False, True]
    await target.aclose()
    assert [session.has_ended for session in sessions] == [True, True]
    await target.open()


async def test_an_orphan_that_cannot_be_ended_just_now_is_busy(target, mongodb_url):
    with (
        failing(mongodb_url, "killSessions", times=9999, closeConnection=True),
        pytest.raises(SystemBusyError, match="left open on"),
    ):
        await target.end_orphan("00" * 16)

    with (
        failing(mongodb_url, "killSessions", times=9999, errorCode=13),
        pytest.raises(OperationFailure),
    ):
        await target.end_orphan("00" * 16)


async def test_a_transaction_left_open_outside_is_rolled_back_and_told(target):
    async def change() -> None:
        async with target.handles() as objects:
            begun = objects["session"].start_transaction()
            if plumbing.driver_of(target.client) == "pymongo":
                await begun

            await objects["db"].t.insert_one({"_id": 1}, session=objects["session"])

    with pytest.raises(FlamingockError, match="begun and not ended"):
        await change()

    assert await rows(target) == []


async def test_it_must_be_open(client):
    target = MongoDBTargetSystem("db", client, "shop")
    for _ in range(2):
        for use in (target.handles, target.transaction):
            with pytest.raises(ConfigurationError, match="not open"):
                async with use():
                    pass

        for call in (target.claim_marker("k", "c"), target.remove_marker("k")):
            with pytest.raises(ConfigurationError, match="not open"):
                await call

        await target.open()
        await target.aclose()


@pytest.mark.parametrize("name", ["", "a-b", "a.b", "1a", "a" * 56, "a$", "ä", "a\n"])
async def test_an_odd_name_of_the_markers_is_refused(client, name):
    with pytest.raises(ConfigurationError, match="repository"):
        MongoDBTargetSystem("db", client, "shop", marker_repository_name=name)


async def test_what_is_no_client_is_refused():
    with pytest.raises(ConfigurationError, match=r"builtins\.str .*Give an AsyncMongoClient"):
        MongoDBTargetSystem("db", "mongodb://localhost", "shop")  # type: ignore[arg-type]  # a wrong argument is the test


@pytest.mark.parametrize("transactional", [True, False])
async def test_a_change_takes_the_session_where_the_driver_cannot_bind_it(target, transactional):
    @change(id="a", author="tests", order="1", target_system="db", transactional=transactional)
    class Bare:
        async def execute(self, db) -> None:
            await db.t.insert_one({"_id": 1})

        async def rollback(self, db, session) -> None:
            await db.t.delete_one({"_id": 1}, session=session)

    flamingock = Flamingock(changes=[Bare], audit_store=MemoryAuditStore(), target_systems=[target])
    if transactional and target.needs_session_parameter:
        with pytest.raises(InjectionError, match="execute: .* does not take .* 'session'"):
            await flamingock.plan()

        assert await rows(target) == []
        return

    await flamingock.plan()


async def test_a_change_that_takes_the_session_is_part_of_the_transaction(target):
    @change(id="a", author="tests", order="1", target_system="db")
    class Failing:
        async def execute(self, db, session) -> None:
            await db.t.insert_one({"_id": 1}, session=session)
            raise ZeroDivisionError

    flamingock = Flamingock(
        changes=[Failing], audit_store=MemoryAuditStore(), target_systems=[target]
    )
    with pytest.raises(ChangeFailedError):
        await flamingock.run()

    assert await rows(target) == []
