"""Transactions of MongoDB that are announced, and those that a dead process has left behind."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from pymongo import MongoClient
from pymongo.errors import OperationFailure, PyMongoError

from aflamingock.exceptions import SystemBusyError
from tests.servers.mongodb import failing
from tests.targets import mongodb as kit
from tests.targets.mongodb import insert, rows

client = kit.client
target = kit.target


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
