"""The rules for the entries of an audit store."""

from __future__ import annotations

from contextlib import suppress
from dataclasses import fields
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any

import anyio
import pytest

from .._payload import storable_mapping, storable_text
from .._records import AuditEntry
from .._states import AuditState, AuditType, Recovery, TxStrategy
from ..abc import AuditStore
from ..exceptions import SequenceConflictError
from ._patience import StoreFactory, created, insist

_SERVICE = "shop"
_NOON = datetime(2024, 2, 29, 12, tzinfo=UTC)

HOSTILE_TEXTS = (
    "",
    " ",
    "grüße, 你好, 🦩, e\u0301, \u202eabc",
    '\'; DROP TABLE "x"; -- $set {$ne: 1} %s :name ? \\ \\x00',
    "$owner",
    "line\r\nline\ttab",
    "x" * 20_000,
    "🦩" * 20_000,
)
_RAW = "\x00\x1b[2J\x9b\udc80\U0010ffff" * 10_000
_NUMBERS = (2**64, 2**63 - 1, -(2**63), float("nan"), float("-inf"), 5e-324, 0.1)
_STORABLE = storable_mapping({"a": _RAW, _RAW: b"\x00\xff", "n": _NUMBERS, "$b.c": {"": {}}})


def chain(count: int, **values: Any) -> list[AuditEntry]:
    """Return sealed entries, numbered from 1; by their clock each is older than the last."""
    sealed: list[AuditEntry] = []
    for sequence in range(1, count + 1):
        previous = sealed[-1].digest if sealed else ""
        defaults: dict[str, Any] = {
            "service": _SERVICE,
            "state": AuditState.APPLIED,
            "execution_id": "run-1",
            "created_at": _NOON - timedelta(milliseconds=sequence),
        }
        entry = AuditEntry(**(defaults | values))
        sealed.append(entry.sealed(sequence=sequence, previous=previous))

    return sealed


def full_entry() -> AuditEntry:
    """Return an entry in which no field has its default."""
    return AuditEntry(
        service=_SERVICE,
        sequence=1,
        entry_id="0123456789abcdef",
        epoch=2**40,
        type=AuditType.CHECKPOINT,
        state=AuditState.ROLLBACK_FAILED,
        created_at=datetime(2024, 2, 29, 23, 59, 59, 7000, tzinfo=UTC),
        execution_id="run-1",
        stage_id="main",
        change_id="add-user-status",
        change_order="0003",
        author="shop-team",
        attempt=3,
        target_system_id="shop-db",
        tx_strategy=TxStrategy.TX_SEPARATE_WITH_MARKER,
        transaction_flag=True,
        recovery_strategy=Recovery.ALWAYS_RETRY,
        rollback_available=True,
        system_change=True,
        invoked_class="shop.changes.AddUserStatus",
        invoked_method="rollback",
        source_file="shop/changes/_0003__add_user_status.py",
        execution_millis=2**40,
        execution_hostname="host-1",
        environment="production",
        initiated_by="deployment",
        checksum="1:abc",
        metadata={"a.b": [1, 2.5, None, True, "é"], "$c": {"": "x"}},
        error_trace="Traceback: …",
        digest="d" * 64,
    )


async def read_all(store: AuditStore[Any], **options: Any) -> list[AuditEntry]:
    """Return all entries as a list."""
    return [entry async for entry in store.entries(_SERVICE, **options)]


class LogRules:
    """Tests of ``last``, ``entries`` and ``append``."""

    async def test_an_empty_store_has_no_entries_before_and_after_creation(
        self, make_store: StoreFactory
    ) -> None:
        """Reads find nothing where nothing was created."""
        async with make_store() as store:
            assert list(await store.last(_SERVICE, 8)) == []
            assert await read_all(store) == []

            await store.create()

            assert list(await store.last(_SERVICE, 8)) == []
            assert await read_all(store) == []

    async def test_last_is_newest_first_and_no_more_than_asked(
        self, make_store: StoreFactory
    ) -> None:
        """``last`` counts from the end."""
        entries = chain(5)
        async with created(make_store) as store:
            await store.append(entries)

            assert list(await store.last(_SERVICE, 2)) == [entries[4], entries[3]]
            assert list(await store.last(_SERVICE, 5)) == entries[::-1]
            assert list(await store.last(_SERVICE, 8)) == entries[::-1]

    async def test_entries_come_in_order_over_many_batches(self, make_store: StoreFactory) -> None:
        """Order is that of the numbers, not of text, and nothing is left out or repeated."""
        entries = chain(1_203)
        async with created(make_store) as store:
            for start in range(0, len(entries), 20):
                await store.append(entries[start : start + 20])

            assert await read_all(store) == entries
            assert await read_all(store, after=9) == entries[9:]
            assert await read_all(store, after=1_202) == entries[1_202:]
            assert await read_all(store, after=1_203) == []

    async def test_a_large_batch_is_appended(self, make_store: StoreFactory) -> None:
        """A batch may be larger than what one statement can take."""
        entries = chain(1_203)
        async with created(make_store) as store:
            await store.append(entries)

            assert await read_all(store) == entries

    async def test_no_entries_are_appended_by_an_empty_batch(
        self, make_store: StoreFactory
    ) -> None:
        """An empty batch is fine."""
        async with created(make_store) as store:
            await store.append([])

            assert await read_all(store) == []

    async def test_brief_leaves_out_the_error_trace_only(self, make_store: StoreFactory) -> None:
        """``brief`` gives everything that a plan needs."""
        entry = full_entry()
        async with created(make_store) as store:
            await store.append([entry])

            [brief] = await read_all(store, brief=True)

        differing = {
            field.name
            for field in fields(AuditEntry)
            if getattr(brief, field.name) != getattr(entry, field.name)
        }
        assert differing == {"error_trace"}
        assert brief.error_trace is None

    async def test_every_field_survives(self, make_store: StoreFactory) -> None:
        """What is read is what was written."""
        full, bare = full_entry(), chain(2)[1]
        async with created(make_store) as store:
            await store.append([full, bare])

            assert await read_all(store) == [full, bare]
            assert list(await store.last(_SERVICE, 2)) == [bare, full]

    @pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
    async def test_hostile_texts_survive(self, make_store: StoreFactory, text: str) -> None:
        """No text is taken for a statement, cut, trimmed or normalised."""
        entries = chain(2, error_trace=text, author=text, metadata={"text": text, "k" + text: 1})
        async with created(make_store) as store:
            await store.append(entries)

            assert await read_all(store) == entries

    async def test_what_was_made_storable_survives(self, make_store: StoreFactory) -> None:
        """No store refuses what a change raised or was given, once the engine has it storable."""
        entries = chain(2, error_trace=storable_text(_RAW, 20_000), metadata=_STORABLE)
        async with created(make_store) as store:
            await store.append(entries)

            assert await read_all(store) == entries

    async def test_digests_fit_after_reading(self, make_store: StoreFactory) -> None:
        """The chain can be checked from what the store gives back."""
        async with created(make_store) as store:
            await store.append(chain(5, error_trace="é", metadata={"b": 1, "a": [1.5, None]}))
            entries = await read_all(store)

        previous = ""
        for entry in entries:
            assert entry.digest == entry.compute_digest(previous)
            previous = entry.digest

    async def test_services_are_separate(self, make_store: StoreFactory) -> None:
        """Each service has numbers of its own; names differ by case and blanks."""
        services = (_SERVICE, "Shop", "shop ", "shöp")
        async with created(make_store) as store:
            for service in services:
                await store.append(chain(2, service=service))

            for service in services:
                assert [entry.service for entry in await store.last(service, 9)] == [service] * 2

    async def test_a_taken_number_is_refused(self, make_store: StoreFactory) -> None:
        """The entry that stands is not touched, and the error tells the number."""
        entries = chain(3)
        async with created(make_store) as store:
            await store.append(entries)

            with pytest.raises(SequenceConflictError) as refused:
                await store.append([chain(3, author="zombie")[2]])

            assert refused.value.sequence == 3
            assert await read_all(store) == entries

    async def test_nothing_is_written_at_or_after_a_taken_number(
        self, make_store: StoreFactory
    ) -> None:
        """A refused batch leaves no gap and no second history."""
        entries = chain(3)
        async with created(make_store) as store:
            await store.append(entries)

            with pytest.raises(SequenceConflictError):
                await store.append(chain(6, author="zombie")[2:])

            assert await read_all(store) == entries

    async def test_a_refused_batch_leaves_a_prefix_at_most(self, make_store: StoreFactory) -> None:
        """What comes before the taken number may stand; never what comes after it."""
        entries = chain(5)
        async with created(make_store) as store:
            await store.append([entries[2]])

            with pytest.raises(SequenceConflictError):
                await store.append(chain(5, author="zombie"))

            sequences = [entry.sequence for entry in await read_all(store)]
            assert sequences in ([3], [1, 3], [1, 2, 3])
            assert (await read_all(store, after=2)) == [entries[2]]

    async def test_of_many_appends_at_one_number_one_is_done(
        self, make_store: StoreFactory
    ) -> None:
        """However many handles write at once, each number has one writer."""
        winners: list[str] = []
        entries = 10

        async def write(store: AuditStore[Any], name: str) -> None:
            for entry in chain(entries, author=name):
                with suppress(SequenceConflictError):
                    await insist(partial(store.append, [entry]))
                    winners.append(name)

        async with (
            created(make_store) as first,
            make_store() as second,
            make_store() as third,
            anyio.create_task_group() as group,
        ):
            for name, store in zip("abc", (first, second, third), strict=True):
                group.start_soon(write, store, name)

        async with make_store() as store:
            log = await read_all(store)

        assert [entry.sequence for entry in log] == list(range(1, entries + 1))
        assert sorted(winners) == sorted(entry.author or "" for entry in log)

    async def test_an_entry_is_seen_by_others_at_once(self, make_store: StoreFactory) -> None:
        """No handle reads a stale state."""
        entries = chain(2)
        async with created(make_store) as writer, make_store() as reader:
            await writer.append(entries[:1])
            assert list(await reader.last(_SERVICE, 8)) == entries[:1]

            await writer.append(entries[1:])
            assert list(await reader.last(_SERVICE, 8)) == entries[::-1]

    async def test_entries_stand_after_closing(self, make_store: StoreFactory) -> None:
        """What was appended is there for the next who opens the store."""
        entries = chain(2)
        async with make_store() as keeper:
            async with created(make_store) as store:
                await store.append(entries)

            assert await read_all(keeper) == entries
