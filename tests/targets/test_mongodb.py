"""The MongoDB target passes the suite with both drivers, and what is special about it."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from pymongo import MongoClient

from aflamingock import ChangeFailedError, Flamingock, InjectionError, change, run_changes
from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import ConfigurationError, FlamingockError
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets import _mongodb as plumbing
from aflamingock.targets.mongodb import MongoDBTargetSystem
from aflamingock.testing import TargetSystemSuite
from tests.servers.mongodb import ADMIN
from tests.targets import mongodb as kit
from tests.targets.kit import check_that_it_must_be_open
from tests.targets.mongodb import rows

client = kit.client
target = kit.target


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
    await check_that_it_must_be_open(MongoDBTargetSystem("db", client, "shop"))


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
