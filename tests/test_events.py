"""Events reach those who listen, and no listener disturbs a run."""

from __future__ import annotations

import logging

import anyio
import pytest
from anyio.lowlevel import checkpoint

from aflamingock import _events
from aflamingock._events import (
    AuditWriteEvent,
    ChangeApplied,
    ChangeEvent,
    ChangeStarted,
    Event,
    Listeners,
    RunStarted,
    StageEvent,
    StageStarted,
    WaitingForLease,
)

_STARTED = RunStarted(service="shop", execution_id="run")
_STAGE = StageStarted(service="shop", execution_id="run", stage="main")
_CHANGE = ChangeStarted(
    service="shop", execution_id="run", stage="main", change_id="add", attempt=1
)
_APPLIED = ChangeApplied(
    service="shop", execution_id="run", stage="main", change_id="add", attempt=1, duration=0.5
)


@pytest.fixture
def listeners() -> Listeners:
    return Listeners()


class TestDispatch:
    @pytest.mark.parametrize(
        ("kind", "heard"),
        [
            (Event, [_STARTED, _STAGE, _CHANGE, _APPLIED]),
            (RunStarted, [_STARTED]),
            (StageEvent, [_STAGE]),
            (ChangeEvent, [_CHANGE, _APPLIED]),
            (ChangeApplied, [_APPLIED]),
            (WaitingForLease, []),
        ],
    )
    async def test_a_kind_means_its_subclasses_as_well(self, listeners, kind, heard):
        found: list[Event] = []
        listeners.add(kind, found.append)
        for event in (_STARTED, _STAGE, _CHANGE, _APPLIED):
            await listeners.emit(event)

        assert found == heard

    async def test_a_coroutine_function_is_waited_for(self, listeners):
        found: list[Event] = []

        async def listen(event: Event) -> None:
            await checkpoint()
            found.append(event)

        listeners.add(Event, listen)
        await listeners.emit(_STARTED)

        assert found == [_STARTED]

    async def test_all_are_told_one_after_the_other(self, listeners):
        order: list[str] = []

        async def slow(event: Event) -> None:
            await checkpoint()
            order.append("slow")

        listeners.add(Event, slow)
        listeners.add(Event, lambda _: order.append("quick"))
        await listeners.emit(_STARTED)

        assert order == ["slow", "quick"]

    async def test_nobody_needs_to_listen(self, listeners):
        await listeners.emit(_STARTED)


class TestGuests:
    @pytest.mark.parametrize("asynchronous", [False, True])
    async def test_one_that_raises_is_warned_of_once(self, listeners, caplog, asynchronous):
        def fail(event: Event) -> None:
            raise LookupError("a listener's own fault")

        async def fail_later(event: Event) -> None:
            await checkpoint()
            fail(event)

        found: list[Event] = []
        listeners.add(Event, fail_later if asynchronous else fail)
        listeners.add(Event, found.append)
        with caplog.at_level(logging.WARNING):
            await listeners.emit(_STARTED)
            await listeners.emit(_STAGE)

        assert found == [_STARTED, _STAGE]
        [record] = caplog.records
        assert record.levelname == "WARNING"
        assert "failed on RunStarted" in record.message
        assert "a listener's own fault" in caplog.text

    async def test_each_that_raises_is_warned_of(self, listeners, caplog):
        def one(event: Event) -> None:
            raise LookupError

        def other(event: Event) -> None:
            raise LookupError

        listeners.add(Event, one)
        listeners.add(Event, other)
        with caplog.at_level(logging.WARNING):
            await listeners.emit(_STARTED)
            await listeners.emit(_STARTED)

        assert len(caplog.records) == 2

    async def test_one_that_hangs_is_cut_and_warned_of(self, listeners, caplog, monkeypatch):
        monkeypatch.setattr(_events, "_LISTENING_TIME", 0.02)
        found: list[Event] = []
        listeners.add(Event, lambda _: anyio.sleep_forever())
        listeners.add(Event, found.append)
        with caplog.at_level(logging.WARNING):
            await listeners.emit(_STARTED)

        assert found == [_STARTED]
        assert len(caplog.records) == 1

    async def test_a_cancellation_does_not_keep_an_event_from_being_told(self, listeners):
        found: list[Event] = []

        async def listen(event: Event) -> None:
            await checkpoint()
            found.append(event)

        listeners.add(Event, listen)
        with anyio.CancelScope() as scope:
            scope.cancel()
            await listeners.emit(_STARTED)

        assert found == [_STARTED]


def test_an_event_of_the_store_says_how_many_entries():
    event = AuditWriteEvent(service="s", execution_id="e", count=2, duration=0.1, failed=False)

    assert (event.count, event.failed) == (2, False)


def test_an_event_cannot_be_changed():
    with pytest.raises(AttributeError):
        _APPLIED.duration = 1.0  # type: ignore[misc]  # that it is frozen is the test
