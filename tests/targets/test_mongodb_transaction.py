"""The transactions of the MongoDB target: what ends them, and what must not."""

from __future__ import annotations

from contextlib import suppress
from datetime import timedelta

import anyio
import pytest
from pymongo.errors import DuplicateKeyError, OperationFailure

from aflamingock._states import MarkerOutcome
from aflamingock.exceptions import (
    FlamingockError,
    LockLostError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.targets import _mongodb as plumbing
from aflamingock.targets.mongodb import MongoDBTargetSystem
from tests.servers.mongodb import failing
from tests.targets import mongodb as kit
from tests.targets.mongodb import insert, rows

client = kit.client
target = kit.target
impatient = kit.impatient


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
