"""A transactional change on a system without transactions is refused before anything is run."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import anyio.lowlevel
import pytest

from aflamingock import AuditState, ConfigurationError, Flamingock, RunStatus, change, run_changes
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import entry, history, leave
from tests.servers.mongodb import ADMIN, MongoDBServer


class SilentTarget(SQLiteTargetSystem):
    """A target system that does not answer when it is asked for transactions."""

    async def require_transactions(self) -> None:
        await anyio.sleep_forever()


def step(id: str, done: list[str], **options: Any) -> type:
    class Step:
        async def execute(self, session: Any) -> None:
            await anyio.lowlevel.checkpoint()
            done.append(id)

        async def rollback(self, session: Any) -> None:
            await anyio.lowlevel.checkpoint()
            done.append(f"not {id}")

    return change(id=id, author="tests", order=id, target_system="shop", **options)(Step)


@pytest.fixture
def standalone(connect: Callable[..., Any], guarded_mongodb: MongoDBServer) -> MongoDBTargetSystem:
    client = connect(guarded_mongodb.url(*ADMIN))
    return MongoDBTargetSystem("shop", client, f"test_{uuid4().hex[:16]}")


async def test_every_such_change_is_named_with_the_hint(standalone: MongoDBTargetSystem) -> None:
    store, done = MemoryAuditStore(), list[str]()
    changes = [step("a", done, transactional=False), step("b", done), step("c", done)]
    flamingock = Flamingock(changes=changes, audit_store=store, target_systems=[standalone])
    with pytest.raises(ConfigurationError, match="transactional=False") as caught:
        await flamingock.run()

    named = [("'b'" in str(one), "'c'" in str(one)) for one in caught.value.faults]
    assert named == [(True, False), (False, True)]
    assert all(one.file and one.line for one in caught.value.faults)
    assert await history(store) == []
    assert done == []


async def test_what_is_applied_already_is_no_fault(standalone: MongoDBTargetSystem) -> None:
    store, done = MemoryAuditStore(), list[str]()
    changes = [step("a", done), step("b", done, transactional=False)]
    flamingock = Flamingock(changes=changes, audit_store=store, target_systems=[standalone])
    await leave(store, entry("a", AuditState.APPLIED, target_system_id="shop"))

    assert (await flamingock.run()).status is RunStatus.SUCCESS
    assert done == ["b"]

    with pytest.raises(ConfigurationError, match="'a' is to run in a transaction"):
        await flamingock.undo(change_id="a")

    assert (await history(store))[-1] == "CHECKPOINT"
    assert done == ["b"]


async def test_a_system_that_does_not_answer_is_left_to_its_change(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("aflamingock._run.survey._ASKED_WITHIN", 0.1)
    done: list[str] = []
    target = SilentTarget("shop", tmp_path / "shop.db")

    await run_changes([step("a", done)], audit_store=MemoryAuditStore(), target_systems=[target])

    assert done == ["a"]
