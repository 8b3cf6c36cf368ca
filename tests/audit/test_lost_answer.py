"""The audit log in a store that is busy, or whose answers are lost."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Sequence

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aflamingock._audit import log as _audit
from aflamingock._audit.log import AuditLog
from aflamingock._records import AuditEntry
from aflamingock.exceptions import (
    LockTimeoutError,
    SequenceConflictError,
    SystemBusyError,
    UnknownOutcomeError,
)
from aflamingock.stores.memory import MemoryAuditStore
from tests.audit.kit import Counting, entry, ids, lease, make_log, stored


class LostAnswers(Counting):
    """A store that loses the first answer, after it has written so many of the entries."""

    def __init__(self, *, written: int) -> None:
        super().__init__()
        self._written: int | None = written

    async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
        if self._written is None:
            await super().append(entries, session=session)
            return

        count, self._written = self._written, None
        await super().append(entries[:count], session=session)
        raise UnknownOutcomeError("The answer was lost.")


class TestLostAnswer:
    async def test_entries_that_stand_are_found(self, caplog):
        store = LostAnswers(written=2)
        log = make_log(store)
        with caplog.at_level(logging.WARNING):
            written = await log.append(entry("a"), entry("b"))

        assert list(written) == await stored(store)
        assert log.history.sequence == 2
        assert "The answer to an append was lost, it is tried again" in caplog.text

    async def test_entries_that_do_not_stand_are_written(self):
        store = LostAnswers(written=0)
        written = await make_log(store).append(entry("a"), entry("b"))

        assert list(written) == await stored(store)
        assert len(written) == 2

    async def test_a_call_that_was_cut_in_the_middle_is_completed(self):
        # a store without atomic batches: the first of the entries stands, and nobody else's
        store = LostAnswers(written=1)
        log = make_log(store)
        written = await log.append(entry("a"), entry("b"))

        assert await ids(store) == ["a", "b"]
        assert list(written) == await stored(store)
        assert log.history.sequence == 2

    async def test_somebody_elses_entry_in_its_place_is_a_conflict(self):
        other: AuditLog

        class Overtaken(LostAnswers):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                try:
                    await super().append(entries, session=session)
                except UnknownOutcomeError:
                    await other.append(entry("theirs"))
                    raise

        store = Overtaken(written=0)
        log, other = make_log(store), make_log(store)
        with pytest.raises(SequenceConflictError):
            await log.append(entry("mine"))

        assert await ids(store) == ["theirs"]

    async def test_a_store_that_hangs_is_asked_again(self, monkeypatch):
        monkeypatch.setattr(_audit, "ANSWERS_WITHIN", 0.05)

        class Hanging(Counting):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                await super().append(entries, session=session)
                if len(self.calls) == 1:
                    await anyio.sleep_forever()

        store = Hanging()
        log = make_log(store)
        log.work_under(lease())
        [written] = await log.append(entry())

        assert await stored(store) == [written]
        assert len(store.calls) == 2

    async def test_without_a_lease_it_is_not_tried_for_ever(self, monkeypatch):
        monkeypatch.setattr(_audit, "ANSWERS_WITHIN", 0.0)

        class Silent(MemoryAuditStore):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                await checkpoint()
                raise UnknownOutcomeError("The answer was lost.")

        with pytest.raises(UnknownOutcomeError):
            await make_log(Silent()).append(entry())


class TestBusyStore:
    async def test_it_is_tried_again(self):
        class Busy(Counting):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                if len(self.calls) < 3:
                    self.calls.append([])
                    raise SystemBusyError("The store is locked.")

                await super().append(entries, session=session)

        store = Busy()
        await make_log(store, limit=30.0).append(entry("a"))

        assert await ids(store) == ["a"]

    async def test_a_read_is_tried_again_without_reading_twice(self, memory):
        class Busy(MemoryAuditStore):
            refused = False

            async def entries(
                self, service: str, *, after: int = 0, brief: bool = False
            ) -> AsyncIterator[AuditEntry]:
                async for found in super().entries(service, after=after, brief=brief):
                    yield found
                    if not self.refused:
                        self.refused = True
                        raise SystemBusyError("The store is locked.")

        store = Busy()
        await make_log(store).append(entry("a"), entry("b"))
        log = make_log(store, limit=30.0)

        await log.read()
        assert log.history.sequence == 2

    async def test_it_is_not_tried_for_ever(self):
        class Busy(MemoryAuditStore):
            async def last(self, service: str, count: int) -> Sequence[AuditEntry]:
                raise SystemBusyError("The store is locked.")

        with pytest.raises(LockTimeoutError):
            await make_log(Busy()).tail()
