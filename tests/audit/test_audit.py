"""The audit log: numbers, digests, and what happens when somebody else has written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import suppress

import pytest

from aflamingock._events import AuditWriteEvent, Listeners
from aflamingock._records import AuditEntry
from aflamingock._states import AuditState
from aflamingock.exceptions import LockLostError, SequenceConflictError, UnknownOutcomeError
from tests.audit.kit import Clock, Counting, entry, ids, lease, make_log, stored


class TestNumbers:
    async def test_entries_are_numbered_without_gaps(self, store):
        log = make_log(store)
        await log.append(entry("a"))
        await log.append(entry("b"), entry("c"))
        await log.append(entry("d"))

        found = await stored(store)
        assert [(e.sequence, e.change_id) for e in found] == [
            (1, "a"),
            (2, "b"),
            (3, "c"),
            (4, "d"),
        ]

    async def test_the_written_entries_are_returned(self, store):
        written = await make_log(store).append(entry("a"), entry("b"))

        assert list(written) == await stored(store)

    async def test_it_goes_on_after_what_was_read(self, store):
        await make_log(store).append(entry("a"), entry("b"))
        log = make_log(store)
        await log.read()
        [written] = await log.append(entry("c"))

        assert written.sequence == 3

    async def test_the_digests_are_a_chain_that_the_store_alone_can_prove(self, store):
        log = make_log(store)
        await log.append(entry("a", metadata={"text": "ö", "n": 1.5}), entry("b"))
        other = make_log(store)
        await other.read()
        await other.append(entry("c", error_trace="Traceback"))

        previous = ""
        for found in await stored(store):
            assert found.digest == found.compute_digest(previous)
            previous = found.digest

        assert previous

    async def test_entries_carry_the_epoch_of_the_lease(self, memory):
        log = make_log(memory)
        log.work_under(lease(epoch=5))
        [written] = await log.append(entry(epoch=1))

        assert written.epoch == 5

    async def test_without_a_lease_they_keep_their_own(self, memory):
        [written] = await make_log(memory).append(entry(epoch=9))

        assert written.epoch == 9

    async def test_services_are_numbered_apart(self, memory):
        await memory.append([entry(service="other").sealed(sequence=1, previous="")])
        [written] = await make_log(memory).append(entry())

        assert written.sequence == 1


class TestConflict:
    async def test_a_taken_number_is_refused_and_the_history_is_read_again(self, store):
        log, other = make_log(store), make_log(store)
        [standing] = await other.append(entry("other"))
        with pytest.raises(SequenceConflictError) as refused:
            await log.append(entry("mine", "APPLIED"))

        assert (refused.value.sequence, refused.value.state) == (1, AuditState.APPLIED)
        assert log.history.sequence == 1
        assert log.history.last["other"].entry_id == standing.entry_id
        assert await ids(store) == ["other"]

    async def test_after_a_conflict_it_goes_on_behind_the_others(self, store):
        log, other = make_log(store), make_log(store)
        await other.append(entry("other"))
        with suppress(SequenceConflictError):
            await log.append(entry("mine"))

        [written] = await log.append(entry("mine"))
        assert written.sequence == 2
        assert written.digest == written.compute_digest((await stored(store))[0].digest)

    async def test_nothing_of_a_refused_call_is_written(self, store):
        log, other = make_log(store), make_log(store)
        await other.append(entry("other"))
        with pytest.raises(SequenceConflictError):
            await log.append(entry("a"), entry("b"), entry("c"))

        assert await ids(store) == ["other"]

    async def test_one_that_has_read_a_later_epoch_has_lost_its_lease(self, store):
        log, successor = make_log(store), make_log(store)
        mine = lease(epoch=3)
        log.work_under(mine)
        await successor.append(entry("theirs", epoch=4))
        with pytest.raises(LockLostError, match="was followed by epoch 4 in the audit log"):
            await log.append(entry("mine"))

        assert not mine.is_standing
        assert await ids(store) == ["theirs"]
        with pytest.raises(LockLostError):
            await log.append(entry("mine"))

    async def test_to_read_a_later_epoch_is_to_lose_the_lease(self, store):
        log = make_log(store)
        log.work_under(lease(epoch=3))
        await make_log(store).append(entry("theirs", epoch=4))
        with pytest.raises(LockLostError):
            await log.read()

    @pytest.mark.parametrize("epoch", [2, 3])
    async def test_entries_of_earlier_leases_are_no_loss(self, memory, epoch):
        log = make_log(memory)
        log.work_under(lease(epoch=3))
        await make_log(memory).append(entry("theirs", epoch=epoch))

        await log.read()
        assert log.history.last.keys() == {"theirs"}


class TestLease:
    async def test_nothing_is_written_after_its_end(self, memory):
        clock = Clock()
        log = make_log(memory)
        log.work_under(lease(clock=clock))
        clock.now = 57.0
        with pytest.raises(LockLostError):
            await log.append(entry())

        assert await stored(memory) == []

    async def test_nothing_is_tried_again_after_its_end(self):
        clock = Clock()

        class Silent(Counting):
            async def append(self, entries: Sequence[AuditEntry], *, session: None = None) -> None:
                self.calls.append([])
                clock.now += 20.0
                raise UnknownOutcomeError("The answer was lost.")

        store = Silent()
        log = make_log(store)
        log.work_under(lease(clock=clock))
        with pytest.raises(LockLostError):
            await log.append(entry())

        assert len(store.calls) == 3


class TestEvents:
    async def test_each_write_is_told(self, memory):
        heard: list[AuditWriteEvent] = []
        listeners = Listeners()
        listeners.add(AuditWriteEvent, heard.append)
        log = make_log(memory, listeners=listeners)
        await log.append(entry("a"), entry("b"))
        await make_log(memory).read()
        with suppress(SequenceConflictError):
            await make_log(memory, listeners=listeners).append(entry("c"))

        assert [(event.count, event.failed) for event in heard] == [(2, False), (1, True)]
        assert all(event.duration >= 0 for event in heard)
        assert (heard[0].service, heard[0].execution_id) == ("shop", "run")
