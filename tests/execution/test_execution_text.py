"""What errors say, as it is stored and told."""

from __future__ import annotations

from pathlib import Path

import pytest

from aflamingock import (
    Flamingock,
)
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from tests.kit import entries, failure, raising, step


class TestErrorsAsText:
    @pytest.mark.parametrize(
        "text", ["a\0b", "lone \ud800 surrogate", "x" * 10_000_000, "\ud800\0" * 50_000]
    )
    @pytest.mark.parametrize("kind", ["memory", "sqlite"])
    async def test_any_text_is_stored_and_cut(
        self, tmp_path: Path, done: list[str], text: str, kind: str
    ) -> None:
        store = MemoryAuditStore() if kind == "memory" else SQLiteAuditStore(tmp_path / "a.db")
        error = ValueError(text)
        bad = step("a", done, body=raising(error), rollback=False)
        failed = await failure([bad], audit_store=store)
        assert failed.__cause__ is error
        trace = [entry.error_trace for entry in await entries(store)][-1]
        assert trace is not None
        assert len(trace) <= 20_000
        assert "ValueError" in trace
        trace.encode()
        assert "\0" not in trace

        flamingock = Flamingock(changes=[bad], audit_store=store)
        (issue,) = await flamingock.audit.issues()
        assert issue.error == trace

    async def test_secrets_do_not_reach_the_log_the_report_or_the_message(
        self, store: MemoryAuditStore, done: list[str], caplog: pytest.LogCaptureFixture
    ) -> None:
        error = OSError("cannot reach postgres://shop:hunter2@db/shop, password='hunter2'")
        failed = await failure([step("a", done, body=raising(error))], audit_store=store)
        assert failed.report is not None
        told = [str(failed), str(failed.report), str(failed.report.to_dict()), caplog.text]
        told += [entry.error_trace or "" for entry in await entries(store)]
        assert not [text for text in told if "hunter2" in text]
