"""The façade: what it is given, when it opens what, and what it says of bad changes."""

from __future__ import annotations

import asyncio
import os
from pathlib import Path
from typing import Any

import anyio
import pytest

from aflamingock import (
    AuditStoreConnectionError,
    ChangeApplied,
    ChangeContext,
    ConfigurationError,
    Event,
    Flamingock,
    InjectionError,
    LockOptions,
    Progress,
    RunEnded,
    RunPlanned,
    RunStarted,
    RunStatus,
    Stage,
    change,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.plain import NonTransactionalTargetSystem
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import calls_of, entries, step, steps


class TestArguments:
    @pytest.mark.parametrize(
        ("arguments", "message"),
        [
            ({"audit_store": None}, "audit store is needed, and none was given"),
            ({"audit_store": "audit.db"}, "'audit.db' is none"),
            ({"stages": [Stage("s", location="x")]}, "not both"),
            ({"changes": None, "stages": ["x"]}, "is no Stage"),
            ({"target_systems": ["x"]}, "is no TargetSystem"),
            ({"target_systems": [NonTransactionalTargetSystem("a")] * 2}, "the id 'a'"),
            ({"dependencies": {"log": MemoryAuditStore()}}, "never given to changes"),
            ({"dependencies": [MemoryAuditStore()]}, "never given to changes"),
            ({"service": ""}, "service=''"),
            ({"service": "a\0b"}, "service="),
            ({"profiles": "prod"}, "profiles='prod'"),
            ({"on_drift": "panic"}, "on_drift='panic'"),
            ({"on_out_of_order": None}, "on_out_of_order=None"),
            ({"transaction_mode": "both"}, "transaction_mode='both'"),
            ({"changes": 7}, "is no location"),
        ],
    )
    def test_a_wrong_one_is_refused_at_construction(
        self, arguments: dict[str, Any], message: str
    ) -> None:
        given: dict[str, Any] = {"changes": "shop.changes", "audit_store": MemoryAuditStore()}
        with pytest.raises(ConfigurationError, match=message):
            Flamingock(**(given | arguments))

    def test_they_can_be_read(self, store: MemoryAuditStore) -> None:
        kafka = NonTransactionalTargetSystem("kafka")
        lock = LockOptions(ttl=30)
        made = Flamingock(
            changes="shop.changes",
            audit_store=store,
            target_systems=[kafka],
            service="shop",
            environment="prod",
            lock=lock,
        )
        assert (made.audit_store, made.target_systems) == (store, (kafka,))
        assert (made.service, made.environment, made.enabled) == ("shop", "prod", True)
        assert made.lock_options is lock
        assert made.progress == Progress()

    async def test_without_changes_nothing_can_run(self, store: MemoryAuditStore) -> None:
        with pytest.raises(ConfigurationError, match="no changes"):
            await Flamingock(audit_store=store).run()

    async def test_a_disabled_one_does_nothing(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        made = Flamingock(changes=steps("a", done), audit_store=store, enabled=False)
        calls = calls_of(store)
        report = await made.run()
        assert report.status is RunStatus.DISABLED
        assert not calls
        assert done == []
        assert len((await made.plan()).pending) == 1


class TestOpening:
    async def test_entering_opens_the_store_and_no_more(self, tmp_path: Path) -> None:
        store = SQLiteAuditStore(tmp_path / "audit.db")
        shop = SQLiteTargetSystem("shop", tmp_path / "shop.db")
        calls = calls_of(store)
        async with Flamingock(changes="no.such", audit_store=store, target_systems=[shop]):
            assert not calls

        assert os.listdir(tmp_path) == []

    async def test_it_may_be_entered_many_times(self, tmp_path: Path, done: list[str]) -> None:
        store = SQLiteAuditStore(tmp_path / "audit.db")
        made = Flamingock(changes=steps("a", done), audit_store=store)
        async with made, made:
            await made.run()

        assert (await made.run()).status is RunStatus.NOTHING_TO_DO
        assert done == ["a"]

    def test_a_second_event_loop_is_refused(self, store: MemoryAuditStore, done: list[str]) -> None:
        made = Flamingock(changes=steps("a", done), audit_store=store)

        def elsewhere() -> None:
            asyncio.run(made.run())

        async def main() -> None:
            async with made:
                with pytest.raises(ConfigurationError, match="another event loop"):
                    await asyncio.to_thread(elsewhere)

                await made.run()

        asyncio.run(main())
        assert done == ["a"]

    def test_one_loop_after_the_other_is_fine(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        made = Flamingock(changes=steps("a", done), audit_store=store)
        first = asyncio.run(made.run())
        second = asyncio.run(made.run())
        assert [first.status, second.status] == [RunStatus.SUCCESS, RunStatus.NOTHING_TO_DO]


class TestHealth:
    async def test_a_store_that_answers_is_up(self, tmp_path: Path, done: list[str]) -> None:
        made = Flamingock(
            changes=steps("a", done), audit_store=SQLiteAuditStore(tmp_path / "audit.db")
        )
        expected = {"status": "up", "audit-store": "Available"}
        assert await made.health() == expected
        assert os.listdir(tmp_path) == []
        await made.run()
        assert await made.health() == expected

    async def test_one_that_does_not_is_down(self, tmp_path: Path, done: list[str]) -> None:
        (tmp_path / "audit.db").write_bytes(b"no database at all" * 100)
        made = Flamingock(
            changes=steps("a", done), audit_store=SQLiteAuditStore(tmp_path / "audit.db")
        )
        found = await made.health()
        assert (found["status"], found["audit-store"]) == ("down", "Unavailable")
        assert "Unable to connect to audit store" in found["error"]
        with pytest.raises(AuditStoreConnectionError, match="Unable to connect") as caught:
            await made.run()

        assert caught.value.report is not None
        assert done == []


class TestDependencies:
    async def test_they_are_found_by_type_and_by_name(self, store: MemoryAuditStore) -> None:
        seen: list[object] = []

        @change(id="a", author="tests", order="1")
        class Asks:
            async def execute(self, mailer: Mailer, limit: int, ctx: ChangeContext) -> None:
                seen.extend([mailer.name, limit, ctx.change_id, ctx.attempt, ctx.epoch])
                seen.extend([ctx.stage, ctx.service, ctx.environment, ctx.target_system])
                ctx.logger.info("At work.")
                ctx.check()

        await run_changes(
            Asks,
            audit_store=store,
            dependencies={"mail": Mailer("smtp"), "limit": 3},
            environment="test",
        )
        assert seen == ["smtp", 3, "a", 1, 1, "default", "default", "test", None]

    async def test_a_list_of_objects_is_found_by_type(self, store: MemoryAuditStore) -> None:
        seen: list[str] = []

        @change(id="a", author="tests", order="1")
        class Asks:
            def execute(self, mailer: Mailer) -> None:
                seen.append(mailer.name)

        await run_changes(Asks, audit_store=store, dependencies=[Mailer("smtp")])
        assert seen == ["smtp"]

    async def test_what_nobody_can_provide_is_found_before_anything_runs(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        @change(id="b", author="tests", order="b")
        class Asks:
            async def execute(self, mailer: Mailer) -> None: ...

        with pytest.raises(InjectionError, match="mailer") as caught:
            await run_changes([step("a", done), Asks], audit_store=store)

        assert (caught.value.change_id, caught.value.parameter) == ("b", "mailer")
        assert done == []


class Mailer:
    """A dependency."""

    def __init__(self, name: str) -> None:
        self.name = name


class TestListeners:
    async def test_a_run_tells_how_it_goes(self, store: MemoryAuditStore, done: list[str]) -> None:
        heard: list[Event] = []
        seen: list[Progress] = []
        made = Flamingock(changes=steps("ab", done), audit_store=store)
        made.on(Event, heard.append)
        made.on(ChangeApplied, lambda event: seen.append(made.progress))
        await made.run()
        kinds = [type(event) for event in heard]
        assert (kinds[0], kinds[-1]) == (RunStarted, RunEnded)
        assert kinds.count(ChangeApplied) == 2
        (planned,) = [event for event in heard if isinstance(event, RunPlanned)]
        assert planned.pending == 2
        assert [(one.state, one.done, one.total) for one in seen] == [
            *(("running", 1, 2), ("running", 2, 2))
        ]
        assert made.progress.state == "done"

    async def test_two_objects_know_nothing_of_each_other(self, done: list[str]) -> None:
        stores = MemoryAuditStore(), MemoryAuditStore()
        one, other = (
            Flamingock(
                changes=steps("ab", done, body=lambda: anyio.sleep(0.01)),
                audit_store=each,
                environment=name,
                dependencies={"name": name},
            )
            for each, name in zip(stores, ("one", "other"), strict=True)
        )
        heard: list[ChangeApplied] = []
        one.on(ChangeApplied, heard.append)
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(one.run)
            tasks.start_soon(other.run)

        assert sorted(done) == ["a", "a", "b", "b"]
        assert len(heard) == 2
        for each, name in zip(stores, ("one", "other"), strict=True):
            log = await entries(each)
            assert len(log) == 5
            assert {entry.environment for entry in log} == {name}
