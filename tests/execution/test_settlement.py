"""What a crash left unfinished: settled by a marker, by the change's verify, or by nothing."""

from __future__ import annotations

import sqlite3
from contextlib import closing
from pathlib import Path
from typing import Any

import aiosqlite
import anyio.lowlevel
import pytest

from aflamingock import (
    AuditEntry,
    AuditState,
    ChangeStatus,
    ConfigurationError,
    Flamingock,
    ManualInterventionError,
    Recovery,
    RunReport,
    RunStatus,
    TxStrategy,
    Verification,
    change,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.kit import entries, entry, history, leave, rows, step

UNFINISHED = [
    AuditState.STARTED,
    AuditState.FAILED,
    AuditState.ROLLBACK_STARTED,
    AuditState.ROLLBACK_FAILED,
]


class TestVerify:
    @pytest.mark.parametrize("state", UNFINISHED)
    @pytest.mark.parametrize("recovery", list(Recovery))
    async def test_applied_is_recorded_and_not_repeated(
        self, store: MemoryAuditStore, done: list[str], state: AuditState, recovery: Recovery
    ) -> None:
        await leave(store, entry("a", state))
        changes = [step("a", done, verify=answering(Verification.APPLIED), recovery=recovery)]
        report = await run_changes([*changes, step("b", done)], audit_store=store)
        assert done == ["a?", "b"]
        assert report.status is RunStatus.SUCCESS
        recorded = (await entries(store))[1]
        assert (recorded.change_id, recorded.state) == ("a", AuditState.APPLIED)
        assert recorded.metadata["resolution"] == "verify"
        assert recorded.attempt == 1

    @pytest.mark.parametrize("state", UNFINISHED)
    @pytest.mark.parametrize("recovery", list(Recovery))
    async def test_not_applied_is_applied(
        self, store: MemoryAuditStore, done: list[str], state: AuditState, recovery: Recovery
    ) -> None:
        await leave(store, entry("a", state))
        changes = [step("a", done, verify=answering(Verification.NOT_APPLIED), recovery=recovery)]
        await run_changes(changes, audit_store=store)
        assert done == ["a?", "a"]
        assert await history(store) == [*(f"a {state}", "a STARTED", "a APPLIED", "CHECKPOINT")]
        assert (await entries(store))[1].attempt == 2

    @pytest.mark.parametrize("answer", [Verification.PARTIAL, None, "nonsense", OSError("gone")])
    async def test_in_doubt_a_person_is_asked(
        self, store: MemoryAuditStore, done: list[str], answer: object
    ) -> None:
        await leave(store, entry("a", AuditState.STARTED))
        with pytest.raises(ManualInterventionError) as caught:
            await run_changes([step("a", done, verify=answering(answer))], audit_store=store)

        assert done == ["a?"]
        assert await history(store) == ["a STARTED"]
        assert [issue.change_id for issue in caught.value.issues] == ["a"]
        assert caught.value.report is not None
        (told,) = caught.value.report.changes()
        assert told.status is ChangeStatus.MANUAL_INTERVENTION

    @pytest.mark.parametrize(
        ("state", "expected"),
        [
            (AuditState.STARTED, ["a?", "a"]),
            (AuditState.FAILED, ["a?", "a"]),
            (AuditState.ROLLBACK_FAILED, ["a?", "a"]),
            (AuditState.ROLLBACK_STARTED, ["a?", "not a", "a"]),
        ],
    )
    async def test_in_doubt_what_may_be_tried_again_is(
        self, store: MemoryAuditStore, done: list[str], state: AuditState, expected: list[str]
    ) -> None:
        await leave(store, entry("a", state))
        retried = step(
            "a", done, verify=answering(Verification.PARTIAL), recovery=Recovery.ALWAYS_RETRY
        )
        await run_changes([retried], audit_store=store)
        assert done == expected

    async def test_an_error_of_verify_is_told(
        self, store: MemoryAuditStore, done: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        await leave(store, entry("a", AuditState.STARTED))
        retried = step("a", done, verify=answering(OSError("gone")), recovery=Recovery.ALWAYS_RETRY)
        await run_changes([retried], audit_store=store)
        assert done == ["a?", "a"]
        assert "gone" in caplog.text

    async def test_an_applied_change_is_not_asked(
        self, store: MemoryAuditStore, done: list[str]
    ) -> None:
        await leave(store, entry("a", AuditState.APPLIED))
        await run_changes([step("a", done, verify=answering(None))], audit_store=store)
        assert done == []


def answering(answer: object) -> Any:
    """Return a verify with that answer, or one that raises it."""

    async def verify() -> object:
        await anyio.lowlevel.checkpoint()
        if isinstance(answer, Exception):
            raise answer

        return answer

    return verify


class Shop:
    """A shop with a change in its database, and the log in another one."""

    def __init__(self, folder: Path) -> None:
        self.path = folder / "shop.db"
        self.target = SQLiteTargetSystem("shop", self.path)
        self.store = SQLiteAuditStore(folder / "log.db")

    async def run(self, **options: Any) -> RunReport:
        given: dict[str, Any] = {"audit_store": self.store, "target_systems": [self.target]}
        return await run_changes([Row], **(given | options))

    async def leave(
        self, state: AuditState, strategy: TxStrategy, outcome: str | None = None
    ) -> AuditEntry:
        """Leave what a run that has died would have left; *outcome* is what its marker says."""
        left = entry("a", state, tx_strategy=strategy, target_system_id="shop")
        await leave(self.store, left)
        with closing(sqlite3.connect(self.path)) as connection, connection:
            connection.execute(
                "CREATE TABLE flamingockMarkers "
                "(key TEXT PRIMARY KEY, outcome TEXT NOT NULL, changeId TEXT, createdAt TEXT)"
            )
            if outcome:
                values = (left.entry_id, outcome, "a", "2999-01-01T00:00:00.000Z")
                connection.execute("INSERT INTO flamingockMarkers VALUES (?, ?, ?, ?)", values)

        return left

    def effects(self) -> int:
        return len(rows(self.path, "SELECT * FROM effect"))

    def markers(self) -> list[Any]:
        return rows(self.path, "SELECT key, outcome FROM flamingockMarkers")


@change(id="a", author="tests", order="a", target_system="shop")
class Row:
    async def execute(self, db: aiosqlite.Connection) -> None:
        await db.execute("CREATE TABLE IF NOT EXISTS effect (id)")
        await db.execute("INSERT INTO effect VALUES ('a')")

    async def rollback(self, db: aiosqlite.Connection) -> None:
        await db.execute("DELETE FROM effect")


@pytest.fixture
def shop(tmp_path: Path) -> Shop:
    return Shop(tmp_path)


class TestMarker:
    async def test_a_committed_one_means_applied(self, shop: Shop) -> None:
        await shop.leave(AuditState.STARTED, TxStrategy.TX_SEPARATE_WITH_MARKER, "COMMITTED")
        report = await shop.run()
        assert shop.effects() == 0
        assert await history(shop.store) == ["a STARTED", "a APPLIED", "CHECKPOINT"]
        (_, applied, _) = await entries(shop.store)
        assert (applied.metadata["resolution"], applied.attempt) == ("marker", 1)
        assert shop.markers() == []
        assert report.status is RunStatus.SUCCESS

    async def test_a_missing_one_means_that_it_never_will_be(self, shop: Shop) -> None:
        left = await shop.leave(AuditState.STARTED, TxStrategy.TX_SEPARATE_WITH_MARKER)
        await shop.run()
        assert shop.effects() == 1
        assert await history(shop.store) == [*("a STARTED", "a STARTED", "a APPLIED", "CHECKPOINT")]
        assert [one.attempt for one in await entries(shop.store)] == [1, 2, 2, 0]
        assert shop.markers() == [(left.entry_id, "ABORTED")]

    async def test_an_aborted_one_of_an_earlier_claimant_is_taken_at_its_word(
        self, shop: Shop
    ) -> None:
        await shop.leave(AuditState.STARTED, TxStrategy.TX_SEPARATE_WITH_MARKER, "ABORTED")
        await shop.run()
        assert shop.effects() == 1
        assert (await history(shop.store))[1:3] == ["a STARTED", "a APPLIED"]

    async def test_an_undo_that_was_committed_is_recorded_and_the_change_applied_again(
        self, shop: Shop
    ) -> None:
        strategy = TxStrategy.TX_SEPARATE_WITH_MARKER
        await shop.leave(AuditState.ROLLBACK_STARTED, strategy, "COMMITTED")
        await shop.run()
        assert shop.effects() == 1
        assert await history(shop.store) == [
            *("a ROLLBACK_STARTED", "a ROLLED_BACK", "a STARTED", "a APPLIED", "CHECKPOINT")
        ]

    async def test_an_undo_that_was_not_committed_leaves_the_change_applied(
        self, shop: Shop
    ) -> None:
        await shop.leave(AuditState.ROLLBACK_STARTED, TxStrategy.TX_SEPARATE_WITH_MARKER)
        report = await shop.run()
        assert [each.status for each in report.changes()] == [ChangeStatus.ALREADY_APPLIED]
        assert shop.effects() == 0
        assert (await history(shop.store))[:1] == ["a ROLLBACK_STARTED"]
        assert "a STARTED" not in await history(shop.store)

    async def test_the_claim_waits_for_nothing_while_the_log_is_in_the_same_file(
        self, shop: Shop
    ) -> None:
        shop.store = SQLiteAuditStore.from_target_system(shop.target)
        await shop.leave(AuditState.STARTED, TxStrategy.TX_SEPARATE_WITH_MARKER, "COMMITTED")
        await shop.run(transaction_mode="separate")
        assert shop.effects() == 0
        assert (await history(shop.store))[1] == "a APPLIED"

    async def test_a_target_that_is_gone_is_asked_for(self, shop: Shop) -> None:
        await shop.leave(AuditState.STARTED, TxStrategy.TX_SEPARATE_WITH_MARKER)
        moved = change(id="a", author="tests", order="a")(type("Moved", (), {"execute": nothing}))
        with pytest.raises(ConfigurationError, match="'shop'"):
            await run_changes([moved], audit_store=shop.store)

        assert await history(shop.store) == ["a STARTED"]


async def nothing(self: object) -> None:
    await anyio.lowlevel.checkpoint()


class TestTransaction:
    @pytest.mark.parametrize("state", [AuditState.STARTED, AuditState.FAILED])
    @pytest.mark.parametrize("strategy", [TxStrategy.TX_SHARED, TxStrategy.TX_SEPARATE_WITH_MARKER])
    async def test_what_surely_did_not_happen_is_applied(
        self, shop: Shop, state: AuditState, strategy: TxStrategy
    ) -> None:
        await shop.leave(state, strategy)
        report = await shop.run()
        assert shop.effects() == 1
        assert len(report.applied) == 1

    @pytest.mark.parametrize("state", [AuditState.ROLLBACK_STARTED, AuditState.ROLLBACK_FAILED])
    async def test_a_shared_undo_that_did_not_commit_leaves_the_change_applied(
        self, shop: Shop, state: AuditState
    ) -> None:
        await shop.leave(state, TxStrategy.TX_SHARED)
        report = await shop.run()
        assert shop.effects() == 0
        assert report.status is RunStatus.NOTHING_TO_DO

    async def test_a_plan_asks_neither_marker_nor_verify(self, shop: Shop, done: list[str]) -> None:
        await shop.leave(AuditState.STARTED, TxStrategy.TX_SEPARATE_WITH_MARKER)
        await leave(shop.store, entry("b", AuditState.STARTED))
        asked = step("b", done, verify=answering(Verification.APPLIED))
        flamingock = Flamingock(
            changes=[Row, asked], audit_store=shop.store, target_systems=[shop.target]
        )
        plan = await flamingock.plan()
        assert [planned.action for planned in plan.pending] == ["RESOLVE_MARKER", "VERIFY"]
        assert done == []
        assert shop.markers() == []
