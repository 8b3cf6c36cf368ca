"""The rules for the records and the issues of an audit store."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import Any

import anyio
import pytest
from anyio.to_thread import run_sync

from .._records import Issue, Lease, Record
from .._states import AuditState, IssueStatus, Resolution
from ..abc import AuditStore
from ._log import HOSTILE_TEXTS
from ._patience import StoreFactory, created, insist

_KEY = "lease:shop"
_VALUE: dict[str, Any] = {"a": 1, "b": [None, True, 1.5, "é"], "$c": {"d.e": ""}}


def _same(record: Record | None) -> Record | None:
    """Return the record without its age."""
    return record and replace(record, age=None)


class RecordRules:
    """Tests of ``read_record`` and ``swap_record``."""

    async def test_there_is_no_record_before_the_first(self, make_store: StoreFactory) -> None:
        """Reads find nothing where nothing was created."""
        async with make_store() as store:
            assert await store.read_record(_KEY) is None

            await store.create()

            assert await store.read_record(_KEY) is None

    async def test_a_record_survives(self, make_store: StoreFactory) -> None:
        """What is read is what was written."""
        record = Record(key=_KEY, value=_VALUE)
        async with created(make_store) as store:
            assert await store.swap_record(None, record)

            assert _same(await store.read_record(_KEY)) == record

    @pytest.mark.parametrize("text", HOSTILE_TEXTS, ids=range(len(HOSTILE_TEXTS)))
    async def test_hostile_texts_survive_in_records(
        self, make_store: StoreFactory, text: str
    ) -> None:
        """No text is taken for a statement, cut, trimmed or normalised."""
        record = Record(key=_KEY, value={"text": text})
        async with created(make_store) as store:
            assert await store.swap_record(None, record)

            assert _same(await store.read_record(_KEY)) == record

    async def test_a_lease_survives(self, make_store: StoreFactory) -> None:
        """A lease is one kind of record."""
        lease = Lease(service="shop", owner="run-1", epoch=7, ttl=60.0, process={"boot": "x"})
        async with created(make_store) as store:
            assert await store.swap_record(None, lease.to_record())
            read = await store.read_record(Lease.key("shop"))

        assert read is not None
        assert replace(Lease.from_record(read), age=None) == replace(
            lease, since=Lease.from_record(read).since
        )

    async def test_a_first_record_is_refused_where_one_stands(
        self, make_store: StoreFactory
    ) -> None:
        """``None`` means that there must be none."""
        record = Record(key=_KEY, value={"holder": "a"})
        async with created(make_store) as store:
            await store.swap_record(None, record)

            assert not await store.swap_record(None, Record(key=_KEY, value={"holder": "b"}))
            assert _same(await store.read_record(_KEY)) == record

    async def test_a_record_is_replaced_only_by_who_has_read_it(
        self, make_store: StoreFactory
    ) -> None:
        """The token decides, and nothing else."""
        first, second, third = (Record(key=_KEY, value={"number": n}) for n in (1, 2, 3))
        async with created(make_store) as store:
            await store.swap_record(None, first)

            assert await store.swap_record(replace(first, value={"stale": True}), second)
            assert not await store.swap_record(first, third)
            assert _same(await store.read_record(_KEY)) == second
            assert await store.swap_record(second, third)
            assert _same(await store.read_record(_KEY)) == third

    async def test_a_record_that_is_not_there_is_not_replaced(
        self, make_store: StoreFactory
    ) -> None:
        """A swap never inserts what was to be replaced."""
        first, second = (Record(key=_KEY, value={"number": n}) for n in (1, 2))
        async with created(make_store) as store:
            assert not await store.swap_record(first, second)
            assert await store.read_record(_KEY) is None

    async def test_keys_are_separate(self, make_store: StoreFactory) -> None:
        """Records under different keys know nothing of each other."""
        records = [Record(key=key, value={"key": key}) for key in ("a", "A", "a ", "lease:ä/$b")]
        async with created(make_store) as store:
            for record in records:
                assert await store.swap_record(None, record)

            for record in records:
                assert _same(await store.read_record(record.key)) == record

    async def test_of_many_swaps_one_is_done(self, make_store: StoreFactory) -> None:
        """However many handles swap at once, each record has one successor."""
        wins: list[Record] = []

        async def swap(store: AuditStore[Any], current: Record | None) -> None:
            new = Record(key=_KEY, value={})
            if await insist(lambda: store.swap_record(current, new)):
                wins.append(new)

        async with (
            created(make_store) as first,
            make_store() as second,
            make_store() as third,
        ):
            current: Record | None = None
            for turn in range(1, 11):
                async with anyio.create_task_group() as group:
                    for store in (first, second, third):
                        group.start_soon(swap, store, current)

                assert len(wins) == turn
                current = await first.read_record(_KEY)
                assert current is not None
                assert current.token == wins[-1].token

    async def test_the_age_counts_from_the_write(self, make_store: StoreFactory) -> None:
        """The age is that of the record, by the store's clock, and a swap sets it back."""
        first, second = (Record(key=_KEY, value={}, age=1e6) for _ in range(2))
        async with created(make_store) as store:
            await store.swap_record(None, first)
            young = await store.read_record(_KEY)
            if young is None or young.age is None:
                pytest.skip("the store has no clock")

            await anyio.sleep(0.05)
            old = await store.read_record(_KEY)
            await store.swap_record(first, second)
            new = await store.read_record(_KEY)

        assert old is not None
        assert new is not None
        assert old.age is not None
        assert new.age is not None
        assert 0 <= young.age <= 60
        assert young.age + 0.04 <= old.age <= 60
        assert 0 <= new.age <= 60

    async def test_another_thread_renews_over_the_side_channel(
        self, make_store: StoreFactory
    ) -> None:
        """The side channel reads and swaps the same records in another thread's event loop."""
        first, second, third = (Record(key=_KEY, value={"number": n}) for n in (1, 2, 3))
        async with created(make_store) as store:
            await store.swap_record(None, first)
            channel = store.open_side_channel()
            if channel is None:
                pytest.skip("the store has no side channel")

            async def renew() -> None:
                async with channel as side:
                    assert _same(await side.read_record(_KEY)) == first
                    assert await side.swap_record(first, second)
                    assert not await side.swap_record(first, third)

            await run_sync(anyio.run, renew)

            assert _same(await store.read_record(_KEY)) == second
            assert await store.swap_record(second, third)


class IssueRules:
    """Tests of ``save_issue`` and ``issues``."""

    async def test_there_is_no_issue_before_the_first(self, make_store: StoreFactory) -> None:
        """Reads find nothing where nothing was created."""
        async with make_store() as store:
            assert list(await store.issues("shop")) == []

            await store.create()

            assert list(await store.issues("shop")) == []

    async def test_issues_survive_oldest_first(self, make_store: StoreFactory) -> None:
        """What is read is what was written, in the order of time, and of one service only."""
        older, newer = _issue("z", days=1), _issue("a", days=2)
        async with created(make_store) as store:
            await store.save_issue(newer)
            await store.save_issue(older)
            await store.save_issue(replace(older, service="other"))

            assert list(await store.issues("shop")) == [older, newer]

    async def test_an_issue_is_replaced_by_its_id(self, make_store: StoreFactory) -> None:
        """Saving again replaces the issue as a whole."""
        issue = _issue("a", days=1)
        resolved = replace(
            issue,
            status=IssueStatus.RESOLVED,
            resolved_at=datetime(2024, 3, 1, 1, 2, 3, 4000, tzinfo=UTC),
            resolved_by="ops",
            resolution=Resolution.ROLLED_BACK,
            reason="looked at it: '; --",
        )
        async with created(make_store) as store:
            await store.save_issue(issue)
            await store.save_issue(resolved)
            assert list(await store.issues("shop")) == [resolved]

            await store.save_issue(issue)
            assert list(await store.issues("shop")) == [issue]


def _issue(issue_id: str, *, days: int) -> Issue:
    return Issue(
        service="shop",
        issue_id=issue_id,
        change_id="add-user-status",
        state=AuditState.ROLLBACK_FAILED,
        target_system_id=None,
        error="ValueError: é 🦩",
        created_at=datetime(2024, 1, 1, tzinfo=UTC) + timedelta(days=days, milliseconds=7),
    )
