from __future__ import annotations

import os
import signal
from collections.abc import Callable, Iterator
from typing import Any

import anyio
import anyio.lowlevel
import anyio.to_thread
import pytest

from aflamingock.asgi import StartInterruptedError
from aflamingock.asgi._interruption import run_interruptibly
from aflamingock.exceptions import RollbackFailedError
from tests.asgi.protocol import (
    CountingStore,
    First,
    Gate,
    living,
    log_of,
    make_flamingock,
    until,
)

Handler = Callable[[int, Any], Any]


@pytest.fixture(params=[signal.SIGTERM, signal.SIGINT])
def signal_number(request: pytest.FixtureRequest) -> Iterator[signal.Signals]:
    number: signal.Signals = request.param
    before = signal.getsignal(number)
    yield number
    signal.signal(number, before)


async def test_a_signal_rolls_back_and_fails_the_start(signal_number: signal.Signals) -> None:
    told: list[int] = []

    def remember(number: int, frame: object) -> None:
        told.append(number)

    signal.signal(signal_number, remember)
    gate = Gate(is_open=False)
    store = CountingStore()

    async with anyio.create_task_group() as group:
        group.start_soon(_kill_when_reached, gate, signal_number)
        with pytest.raises(StartInterruptedError, match=f"interrupted by {signal_number.name}"):
            async with living(make_flamingock(gate, First, store=store)):
                pytest.fail("served")

    assert told == [signal_number]
    assert signal.getsignal(signal_number) is remember
    assert gate.lines == ["first begins", "first is rolled back"]
    assert await log_of(make_flamingock(gate, First, store=store)) == [
        "first STARTED",
        "first FAILED",
        "first ROLLBACK_STARTED",
        "first ROLLED_BACK",
    ]
    assert not (await make_flamingock(gate, First, store=store).lock.status()).held


async def test_waiting_is_ended_by_a_signal(
    signal_number: signal.Signals, caplog: pytest.LogCaptureFixture
) -> None:
    async def kill_when_waiting() -> None:
        await until(lambda: "Waiting until" in caplog.text)
        os.kill(os.getpid(), signal_number)

    signal.signal(signal_number, lambda number, frame: None)
    store = CountingStore()

    async with anyio.create_task_group() as group:
        group.start_soon(kill_when_waiting)
        with pytest.raises(StartInterruptedError):
            async with living(make_flamingock(store=store), mode="wait"):
                pytest.fail("served")

    assert not store.is_open


async def _kill_when_reached(gate: Gate, number: signal.Signals) -> None:
    await gate.reached.wait()
    os.kill(os.getpid(), number)


async def test_what_an_interrupted_run_failed_with_is_the_cause() -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGTERM)
        try:
            await anyio.sleep_forever()
        except anyio.get_cancelled_exc_class():
            raise RollbackFailedError("glued", change_id="sticky", file=None) from None

    before = signal.signal(signal.SIGTERM, lambda number, frame: None)
    try:
        with pytest.raises(StartInterruptedError) as caught:
            await run_interruptibly(work)
    finally:
        signal.signal(signal.SIGTERM, before)

    assert isinstance(caught.value.__cause__, RollbackFailedError)


async def test_an_error_without_a_signal_passes() -> None:
    async def work() -> None:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        await run_interruptibly(work)


@pytest.mark.parametrize("standing", [signal.SIG_DFL, signal.default_int_handler])
async def test_python_s_own_handlers_are_replaced_for_the_time(standing: Handler) -> None:
    async def work() -> None:
        signal.raise_signal(signal.SIGINT)
        await anyio.sleep_forever()

    before = signal.signal(signal.SIGINT, standing)
    try:
        with pytest.raises(StartInterruptedError):
            await run_interruptibly(work)

        assert signal.getsignal(signal.SIGINT) is standing
    finally:
        signal.signal(signal.SIGINT, before)


async def test_an_ignored_signal_stays_ignored() -> None:
    async def work() -> str:
        signal.raise_signal(signal.SIGTERM)
        await anyio.lowlevel.checkpoint()
        return "done"

    before = signal.signal(signal.SIGTERM, signal.SIG_IGN)
    try:
        assert await run_interruptibly(work) == "done"
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_handler_that_came_meanwhile_is_left_alone() -> None:
    def other(number: int, frame: object) -> None:
        pass

    async def work() -> None:
        signal.signal(signal.SIGTERM, other)

    before = signal.getsignal(signal.SIGTERM)
    try:
        await run_interruptibly(work)

        assert signal.getsignal(signal.SIGTERM) is other
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_a_handler_that_raises_does_not_stop_the_cancellation() -> None:
    def raising(number: int, frame: object) -> None:
        raise OSError("broken handler")

    async def work() -> None:
        try:
            signal.raise_signal(signal.SIGTERM)
        except OSError:
            await anyio.sleep_forever()

    before = signal.signal(signal.SIGTERM, raising)
    try:
        with pytest.raises(StartInterruptedError):
            await run_interruptibly(work)
    finally:
        signal.signal(signal.SIGTERM, before)


async def test_handlers_are_left_alone_outside_the_main_thread() -> None:
    def in_thread() -> list[Any]:
        async def work() -> list[Any]:
            return [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]

        return anyio.run(run_interruptibly, work)

    standing = [signal.getsignal(signal.SIGTERM), signal.getsignal(signal.SIGINT)]

    assert await anyio.to_thread.run_sync(in_thread) == standing
