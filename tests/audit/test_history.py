"""What the audit log knows of the past."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from aflamingock._audit.history import is_up_to_date
from aflamingock._records import AuditEntry
from aflamingock._states import AuditState, AuditType
from aflamingock.exceptions import AuditStoreError
from aflamingock.stores.memory import MemoryAuditStore
from tests.audit.kit import entry, make_log, stored


class TestHistory:
    async def test_it_holds_the_last_entry_of_each_change(self, store):
        first = make_log(store)
        await first.append(entry("a"), entry("b"), entry("a", "APPLIED", epoch=4))
        await first.append(entry(change_id=None, type=AuditType.CHECKPOINT, state="APPLIED"))
        log = make_log(store)
        await log.read()

        assert {id: e.state for id, e in log.history.last.items()} == {
            "a": AuditState.APPLIED,
            "b": AuditState.STARTED,
        }
        assert (log.history.sequence, log.history.epoch) == (4, 4)
        assert log.history.digest == (await stored(store))[-1].digest

    async def test_it_holds_what_the_checkpoints_at_the_end_attest(self, store):
        log = make_log(store)
        await log.append(entry("a", checksum="no checkpoint"), _checkpoint("one"))
        await log.append(_checkpoint("two"))
        other = make_log(store)
        await other.read()

        assert list(log.history.checkpoints) == list(other.history.checkpoints) == ["one", "two"]

        await log.append(entry("b"))
        assert list(log.history.checkpoints) == []

    async def test_it_grows_by_what_is_appended(self, store):
        log = make_log(store)
        [written] = await log.append(entry("a"))

        assert log.history.sequence == 1
        assert log.history.last == {"a": written}

    async def test_only_what_is_new_is_read(self):
        class Watched(MemoryAuditStore):
            async def entries(
                self, service: str, *, after: int = 0, brief: bool = False
            ) -> AsyncIterator[AuditEntry]:
                async for found in super().entries(service, after=after, brief=brief):
                    read.append(found.change_id)
                    yield found

        read: list[str | None] = []
        store = Watched()
        log, other = make_log(store), make_log(store)
        await log.append(entry("a"))
        await log.read()
        assert read == []

        await other.read()
        await other.append(entry("b"))
        read.clear()
        await log.read()
        assert read == ["b"]

    async def test_error_traces_are_left_in_the_store(self, store):
        await make_log(store).append(entry("a", error_trace="a long one"))
        log = make_log(store)
        await log.read()

        assert log.history.last["a"].error_trace is None
        assert (await log.entry(1)).error_trace == "a long one"

    async def test_an_entry_that_has_disappeared_is_missed(self, store):
        with pytest.raises(AuditStoreError, match="entry 7 of service 'shop' has disappeared"):
            await make_log(store).entry(7)

    async def test_the_tail_is_newest_first_and_short(self, store):
        log = make_log(store)
        await log.append(*(entry(str(number)) for number in range(1, 12)))

        assert [e.sequence for e in await log.tail()] == [11, 10, 9, 8, 7, 6, 5, 4]


def _checkpoint(digest: str | None) -> AuditEntry:
    return entry(change_id=None, state="APPLIED", type=AuditType.CHECKPOINT, checksum=digest)


_OTHER = entry("a", "APPLIED", checksum="mine")


@pytest.mark.parametrize(
    ("tail", "digest", "up_to_date"),
    [
        ([], "mine", False),
        ([_checkpoint("mine")], "mine", True),
        ([_checkpoint("other")], "mine", False),
        ([_checkpoint("other"), _checkpoint("mine")], "mine", True),
        ([_checkpoint("mine"), _OTHER], "mine", True),
        ([_checkpoint("other"), _OTHER, _checkpoint("mine")], "mine", False),
        ([_OTHER], "mine", False),
        ([_OTHER, _checkpoint("mine")], "mine", False),
        ([_checkpoint(str(n)) for n in range(7)] + [_checkpoint("mine")], "mine", True),
        ([_checkpoint("mine")], None, False),
        ([_checkpoint(None)], None, False),
    ],
)
def test_nothing_is_pending_if_only_checkpoints_follow_one_with_the_digest(
    tail, digest, up_to_date
):
    assert is_up_to_date(tail, digest) is up_to_date
