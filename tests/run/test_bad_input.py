"""Bad changes: one error that tells everything, before anything is run."""

from __future__ import annotations

from pathlib import Path
from typing import ClassVar

import pytest

from aflamingock import (
    ConfigurationError,
    Flamingock,
    RunStatus,
    Stage,
    run_changes,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.change_files import text_of, write
from tests.kit import calls_of, entries, step

BAD = {
    "_0001__broken.py": "def (\n",
    "_0002__first.py": text_of("twice"),
    "_0003__second.py": text_of("twice"),
    "_0004__order.py": text_of("order-one"),
    "sub/_0004__order.py": text_of("order-two"),
    "_0005__target.py": text_of("target", 'target_system="nowhere"'),
    "_0006__parameter.py": text_of("parameter").replace("(self)", "(self, mailer)"),
    "_0007__control.py": text_of("x").replace('id="x"', r'id="a\x07b"'),
    "_0008__rollback.py": text_of("rollback") + "    async def rollback(): ...\n",
}


class TestBadInput:
    FAULTS: ClassVar = {
        ("_0001__broken.py", 1): "does not parse",
        ("_0003__second.py", 5): "2 changes have the id 'twice'",
        ("sub/_0004__order.py", 5): "2 changes of stage 'one' have the order '0004'",
        ("_0005__target.py", 5): "the target system 'nowhere'",
        ("_0006__parameter.py", 6): "execute(mailer)",
        ("_0007__control.py", 5): r"id='a\x07b' is not allowed",
        ("_0008__rollback.py", 7): "rollback: its parameters",
        (None, None): "'one' -> 'two' -> 'one'",
    }

    @pytest.mark.parametrize("call", ["run", "plan", "validate"])
    async def test_one_error_lists_every_fault_with_file_and_line(
        self, store: MemoryAuditStore, tmp_path: Path, call: str
    ) -> None:
        folder = tmp_path / "changes"
        write(folder, BAD)
        stages = [
            Stage("one", location=folder, after=("two",)),
            Stage("two", location=[], after=("one",)),
        ]
        calls = calls_of(store)
        with pytest.raises(ConfigurationError) as caught:
            await getattr(Flamingock(stages=stages, audit_store=store), call)()

        found = {
            (fault.file and fault.file.removeprefix(f"{folder}/"), fault.line): str(fault)
            for fault in caught.value.faults
        }
        assert found.keys() == self.FAULTS.keys()
        for place, words in self.FAULTS.items():
            assert words in found[place]
            assert found[place] in str(caught.value)

        assert calls.keys() <= {"last"}

    async def test_the_report_says_that_nothing_was_run(
        self, store: MemoryAuditStore, tmp_path: Path
    ) -> None:
        write(tmp_path, {"_0001__broken.py": "def ("})
        with pytest.raises(ConfigurationError) as caught:
            await run_changes(tmp_path, audit_store=store)

        assert caught.value.report is not None
        assert caught.value.report.status is RunStatus.FAILED
        assert list(caught.value.report.changes()) == []
        assert await entries(store) == []


class TestWithoutTransactions:
    class Standalone(SQLiteTargetSystem):
        error: Exception = ConfigurationError("This server has no transactions.")

        async def require_transactions(self) -> None:
            raise self.error

    async def test_a_change_that_needs_one_is_refused_before_anything_is_run(
        self, store: MemoryAuditStore, tmp_path: Path
    ) -> None:
        done: list[str] = []
        changes = [step("a", done), step("b", done, target_system="db")]
        target = self.Standalone("db", tmp_path / "db")

        with pytest.raises(ConfigurationError, match="no transactions"):
            await run_changes(changes, audit_store=store, target_systems=[target])

        assert done == []
        assert await entries(store) == []

    async def test_a_change_that_needs_none_is_applied(
        self, store: MemoryAuditStore, tmp_path: Path
    ) -> None:
        done: list[str] = []
        changes = [step("a", done), step("b", done, target_system="db", transactional=False)]
        target = self.Standalone("db", tmp_path / "db")

        await run_changes(changes, audit_store=store, target_systems=[target])

        assert done == ["a", "b"]

    async def test_a_server_that_cannot_be_asked_is_left_to_its_change(
        self, store: MemoryAuditStore, tmp_path: Path
    ) -> None:
        done: list[str] = []
        target = self.Standalone("db", tmp_path / "db")
        target.error = OSError("out of reach")

        await run_changes(
            [step("a", done, target_system="db")], audit_store=store, target_systems=[target]
        )

        assert done == ["a"]
