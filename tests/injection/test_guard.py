"""The fence around the code of changes, and the guard around what it uses."""

from __future__ import annotations

import asyncio
import copy
import functools
import gc
import inspect
import logging
import weakref
from collections.abc import AsyncIterator, Callable, Coroutine, Generator, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal
from enum import Enum
from pathlib import Path
from types import MappingProxyType
from typing import Any, Protocol, runtime_checkable

import anyio
import anyio.lowlevel
import pytest

from aflamingock._injection.guard import fenced, guarded
from aflamingock.abc import ChangeContext
from aflamingock.exceptions import LockLostError


class Lease:
    """A lease that ends when a test says so."""

    def __init__(self) -> None:
        self.ended = False
        self.checks = 0

    def check(self) -> None:
        self.checks += 1
        if self.ended:
            raise LockLostError("The lease has ended.")


@pytest.fixture
def lease() -> Lease:
    return Lease()


class TestFenced:
    async def test_the_result_is_passed_on(self, lease: Lease) -> None:
        async def work() -> int:
            await anyio.lowlevel.checkpoint()
            await asyncio.sleep(0.001)
            return 7

        assert await fenced(work(), lease.check) == 7
        assert lease.checks >= 3

    async def test_an_error_is_passed_on(self, lease: Lease) -> None:
        async def work() -> None:
            await anyio.lowlevel.checkpoint()
            raise ValueError("mine")

        with pytest.raises(ValueError, match="mine"):
            await fenced(work(), lease.check)

    async def test_nothing_begins_after_the_lease_ended(self, lease: Lease) -> None:
        steps: list[str] = []

        async def work() -> None:
            steps.append("begun")

        lease.ended = True
        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert steps == []

    async def test_no_further_step_is_taken_although_the_answer_has_come(
        self, lease: Lease
    ) -> None:
        answer = asyncio.get_running_loop().create_future()
        steps: list[str] = []

        async def work() -> None:
            steps.append("asked")
            await answer
            steps.append("went on")

        def come_back() -> None:
            lease.ended = True
            answer.set_result(None)

        asyncio.get_running_loop().call_soon(come_back)
        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert steps == ["asked"]

    async def test_an_answer_that_is_an_error_does_not_hide_the_loss(self, lease: Lease) -> None:
        answer = asyncio.get_running_loop().create_future()
        seen: list[str] = []

        async def work() -> None:
            try:
                await answer
            except ConnectionError:
                seen.append("tried again")

        def come_back() -> None:
            lease.ended = True
            answer.set_exception(ConnectionError("reset"))

        asyncio.get_running_loop().call_soon(come_back)
        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert seen == []

    async def test_finally_runs_and_except_exception_swallows_nothing(self, lease: Lease) -> None:
        seen: list[str] = []

        async def work() -> None:
            try:
                lease.ended = True
                await anyio.lowlevel.checkpoint()
            except Exception:
                seen.append("swallowed")
            finally:
                seen.append("cleaned up")

        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert seen == ["cleaned up"]

    async def test_who_swallows_the_cancellation_is_cancelled_at_each_wait(
        self, lease: Lease
    ) -> None:
        caught = 0

        async def work() -> str:
            nonlocal caught
            lease.ended = True
            for _ in range(3):
                try:
                    await anyio.lowlevel.checkpoint()
                except asyncio.CancelledError:
                    caught += 1

            return "done all the same"

        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert caught == 3

    async def test_an_error_of_the_clean_up_is_the_cause(self, lease: Lease) -> None:
        async def work() -> None:
            lease.ended = True
            try:
                await anyio.lowlevel.checkpoint()
            finally:
                raise OSError("cannot close")

        with pytest.raises(LockLostError) as caught:
            await fenced(work(), lease.check)

        assert isinstance(caught.value.__cause__, OSError)

    async def test_a_scope_inside_does_not_swallow_the_loss(self, lease: Lease) -> None:
        steps: list[str] = []

        async def work() -> None:
            with anyio.move_on_after(0):
                lease.ended = True
                await anyio.sleep(10)

            steps.append("went on")

        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert steps == []

    async def test_timeouts_inside_work(self, lease: Lease) -> None:
        async def work() -> list[str]:
            seen = []
            with anyio.move_on_after(0):
                await anyio.sleep(10)

            seen.append("moved on")
            with suppress(TimeoutError):
                async with asyncio.timeout(0):
                    await asyncio.sleep(10)

            seen.append("timed out")
            with suppress(TimeoutError):
                with anyio.fail_after(0):
                    await anyio.sleep_forever()

            await anyio.lowlevel.checkpoint()
            return seen

        assert await fenced(work(), lease.check) == ["moved on", "timed out"]

    async def test_task_groups_and_threads_inside_work(self, lease: Lease) -> None:
        async def work() -> list[int]:
            found: list[int] = []

            async def add(number: int) -> None:
                await anyio.lowlevel.checkpoint()
                found.append(await anyio.to_thread.run_sync(lambda: number))

            async with anyio.create_task_group() as group:
                for number in range(3):
                    group.start_soon(add, number)

            return sorted(found)

        assert await fenced(work(), lease.check) == [0, 1, 2]

    async def test_a_task_group_inside_is_ended_with_its_tasks(self, lease: Lease) -> None:
        ended: list[str] = []

        async def wait() -> None:
            try:
                await anyio.sleep_forever()
            finally:
                ended.append("child")

        async def lose() -> None:
            lease.ended = True

        async def work() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(wait)
                await anyio.lowlevel.checkpoint()
                await lose()
                await anyio.lowlevel.checkpoint()

        with pytest.raises(LockLostError):
            await fenced(work(), lease.check)

        assert ended == ["child"]

    async def test_a_cancellation_from_outside_is_passed_on(self, lease: Lease) -> None:
        seen: list[type[BaseException]] = []

        async def work() -> None:
            try:
                await anyio.sleep_forever()
            except asyncio.CancelledError as exc:
                seen.append(type(exc))
                raise

        with anyio.move_on_after(0) as scope:
            await fenced(work(), lease.check)

        assert scope.cancelled_caught
        assert seen == [asyncio.CancelledError]

    async def test_the_loss_comes_out_of_a_scope_that_is_cancelled_as_well(
        self, lease: Lease
    ) -> None:
        task = asyncio.current_task()

        async def work() -> None:
            await anyio.sleep_forever()

        def end() -> None:
            scope.cancel()
            lease.ended = True

        async def run() -> None:
            with scope:
                await fenced(work(), lease.check)

        scope = anyio.CancelScope()
        asyncio.get_running_loop().call_soon(end)
        with pytest.raises(LockLostError):
            await run()

        await anyio.lowlevel.checkpoint()
        assert task is not None
        assert task.cancelling() == 0

    async def test_the_coroutine_is_closed_with_the_fence(self, lease: Lease) -> None:
        closed: list[str] = []

        async def work() -> None:
            try:
                await asyncio.sleep(10)
            finally:
                closed.append("closed")

        coroutine = fenced(work(), lease.check)
        coroutine.send(None)
        coroutine.close()
        assert closed == ["closed"]

    async def test_a_broken_check_closes_the_coroutine(self) -> None:
        async def work() -> None:
            await anyio.lowlevel.checkpoint()

        def check() -> None:
            raise RuntimeError("broken")

        coroutine = work()
        with pytest.raises(RuntimeError, match="broken"):
            await fenced(coroutine, check)

        assert inspect.getcoroutinestate(coroutine) == inspect.CORO_CLOSED

    async def test_two_fences_work_one_in_the_other(self, lease: Lease) -> None:
        async def work() -> int:
            await anyio.lowlevel.checkpoint()
            return 1

        assert await fenced(fenced(work(), lease.check), lease.check) == 1


class Mailer:
    """Something with behaviour, as an application hands it over."""

    kind = "smtp"
    opened = 0

    def __init__(self) -> None:
        self.sent: list[str] = []
        self.inner: Any = None

    def send(self, text: str) -> str:
        self.sent.append(text)
        return text

    async def send_later(self, text: str) -> str:
        await anyio.lowlevel.checkpoint()
        return self.send(text)

    async def stream(self) -> AsyncIterator[str]:
        for text in self.sent:
            yield text

    def __call__(self, text: str) -> str:
        return self.send(text)

    async def __aenter__(self) -> Mailer:
        self.opened += 1
        return self

    async def __aexit__(self, *_: object) -> None:
        self.opened -= 1

    def __enter__(self) -> Mailer:
        return self

    def __exit__(self, *_: object) -> None:
        return None

    def __getitem__(self, index: int) -> str:
        return self.sent[index]

    def __setitem__(self, index: int, text: str) -> None:
        self.sent[index] = text

    def __len__(self) -> int:
        return len(self.sent)

    def __contains__(self, text: object) -> bool:
        return text in self.sent

    def __iter__(self) -> Iterator[str]:
        return iter(self.sent)

    def __aiter__(self) -> AsyncIterator[str]:
        return self.stream()

    def __await__(self) -> Generator[Any, Any, str]:
        return (yield from self.send_later("awaited").__await__())

    def __bool__(self) -> bool:
        return True

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Mailer)

    def __hash__(self) -> int:
        return 5

    def __repr__(self) -> str:
        return "<mailer>"

    def __add__(self, other: object) -> str:
        return f"plus {other}"


@runtime_checkable
class Sender(Protocol):
    def send(self, text: str) -> str: ...


class Unhashable:
    __hash__ = None  # type: ignore[assignment]  # as Python itself says "unhashable"


class Colour(Enum):
    RED = 1

    def paint(self) -> str:
        return self.name


@dataclass
class Settings:
    url: str = "x"


async def _double(number: int) -> int:
    return number * 2


def _triple(number: int) -> int:
    return number * 3


CONTEXT = ChangeContext(
    service="s",
    environment=None,
    execution_id="e",
    stage="main",
    change_id="c",
    target_system=None,
    attempt=1,
    epoch=1,
    logger=logging.getLogger("test"),
    check=lambda: None,
)


class TestGuarded:
    def test_it_passes_for_the_real_object(self, lease: Lease) -> None:
        real = Mailer()
        mailer = guarded(real, lease.check)
        assert isinstance(mailer, Mailer)
        assert isinstance(mailer, Sender)
        assert mailer.__class__ is Mailer
        assert mailer is not real
        assert callable(mailer)
        assert (str(mailer), repr(mailer), f"{mailer}") == ("<mailer>",) * 3
        assert vars(mailer) is vars(real)
        assert weakref.ref(mailer)() is mailer

    async def test_everything_is_passed_to_the_real_object(self, lease: Lease) -> None:
        real = Mailer()
        mailer = guarded(real, lease.check)
        assert mailer.send("a") == "a"
        assert mailer("b") == "b"
        assert await mailer.send_later("c") == "c"
        assert await mailer == "awaited"
        mailer[0] = "A"
        assert list(mailer) == [t async for t in mailer] == [t async for t in mailer.stream()]
        assert real.sent == ["A", "b", "c", "awaited"]
        assert (len(mailer), mailer[0], "b" in mailer, bool(mailer)) == (4, "A", True, True)
        assert (mailer == real, hash(mailer), mailer + 1) == (True, 5, "plus 1")
        async with mailer as opened:
            assert opened is real
            assert real.opened == 1

        with mailer as opened:
            assert opened is real

    def test_attributes_are_read_written_and_deleted(self, lease: Lease) -> None:
        real = Mailer()
        mailer = guarded(real, lease.check)
        mailer.kind = "sendmail"
        assert (real.kind, mailer.kind) == ("sendmail", "sendmail")
        del mailer.kind
        assert mailer.kind == "smtp"
        assert not hasattr(mailer, "missing")

    USES: Mapping[str, Callable[[Any], object]] = MappingProxyType(
        {
            "method": lambda mailer: mailer.send("x"),
            "call": lambda mailer: mailer("x"),
            "getitem": lambda mailer: mailer[0],
            "setitem": lambda mailer: mailer.__setitem__(0, "x"),
            "len": len,
            "iter": iter,
            "aiter": aiter,
            "contains": lambda mailer: "x" in mailer,
            "eq": lambda mailer: mailer == 1,
            "hash": hash,
            "bool": bool,
            "str": str,
            "repr": repr,
            "enter": lambda mailer: mailer.__enter__(),
            "aenter": lambda mailer: type(mailer).__aenter__(mailer).close(),
            "await": lambda mailer: type(mailer).__await__(mailer),
            "stream": lambda mailer: mailer.stream(),
            "inner": lambda mailer: mailer.inner,
            "copy": copy.copy,
        }
    )

    @pytest.mark.parametrize("use", USES.values(), ids=USES)
    def test_nothing_is_called_after_the_lease_ended(
        self, lease: Lease, use: Callable[[Any], object]
    ) -> None:
        real = Mailer()
        real.sent.append("first")
        real.inner = Mailer()
        mailer = guarded(real, lease.check)
        use(mailer)
        before = list(real.sent)
        lease.ended = True
        with pytest.raises(LockLostError):
            use(mailer)

        assert real.sent == before

    async def test_a_coroutine_is_not_begun_after_the_lease_ended(self, lease: Lease) -> None:
        real = Mailer()
        mailer = guarded(real, lease.check)
        begun = mailer.send_later("x")
        lease.ended = True
        with pytest.raises(LockLostError):
            await begun

        assert real.sent == []

    def test_a_method_taken_before_is_checked_as_well(self, lease: Lease) -> None:
        send = guarded(Mailer(), lease.check).send
        lease.ended = True
        with pytest.raises(LockLostError):
            send("x")

    def test_data_can_be_read_after_the_lease_ended(self, lease: Lease) -> None:
        mailer = guarded(Mailer(), lease.check)
        lease.ended = True
        assert (mailer.kind, mailer.sent) == ("smtp", [])
        assert isinstance(mailer, Mailer)

    def test_what_the_object_returns_is_the_real_thing(self, lease: Lease) -> None:
        real = Mailer()
        real.inner = Mailer()
        assert guarded(real, lease.check).inner is real.inner

    @pytest.mark.parametrize(
        "value",
        [
            *(None, "text", b"bytes", 1, 1.5, True, Decimal(1), Path("x"), datetime.now(UTC)),
            *([1], (1,), {1: 1}, {1}, frozenset({1}), Colour.RED, Settings(), CONTEXT),
            *(Mailer, Settings, inspect, list[int]),
        ],
        ids=lambda given: type(given).__name__,
    )
    def test_what_has_no_behaviour_is_given_as_it_is(self, lease: Lease, value: object) -> None:
        assert guarded(value, lease.check) is value

    async def test_functions_are_wrapped(self, lease: Lease) -> None:
        double = guarded(_double, lease.check)
        triple = guarded(_triple, lease.check)
        assert inspect.iscoroutinefunction(double)
        assert not inspect.iscoroutinefunction(triple)
        assert (await double(2), triple(2)) == (4, 6)
        assert triple.__name__ == "_triple"
        assert guarded(functools.partial(_triple, 2), lease.check)() == 6
        lease.ended = True
        with pytest.raises(LockLostError):
            await double(2)

        with pytest.raises(LockLostError):
            triple(2)

    def test_builtin_functions_are_wrapped(self, lease: Lease) -> None:
        append = guarded(list[int]().append, lease.check)
        append(1)
        lease.ended = True
        with pytest.raises(LockLostError):
            append(2)

    def test_special_methods_that_are_missing_stay_missing(self, lease: Lease) -> None:
        plain = guarded(object(), lease.check)
        assert not callable(plain)
        assert plain == plain
        with pytest.raises(TypeError):
            len(plain)  # type: ignore[arg-type]  # a wrong argument is the test

        with pytest.raises(TypeError):
            hash(guarded(Unhashable(), lease.check))

    def test_the_stand_in_does_not_finalise_the_object(self, lease: Lease) -> None:
        finalised: list[str] = []

        class Connection:
            def __del__(self) -> None:
                finalised.append("closed")

        real = Connection()
        stand_in = guarded(real, lease.check)
        del stand_in
        gc.collect()
        assert finalised == []
        del real
        gc.collect()
        assert finalised == ["closed"]

    async def test_a_fence_and_a_guard_together(self, lease: Lease) -> None:
        mailer = guarded(Mailer(), lease.check)

        async def child() -> None:
            await anyio.lowlevel.checkpoint()
            lease.ended = True
            await mailer.send_later("too late")

        async def work() -> None:
            async with anyio.create_task_group() as group:
                group.start_soon(child)

        coroutine: Coroutine[Any, Any, None] = work()
        with pytest.raises(LockLostError):
            await fenced(coroutine, lease.check)

        assert mailer.sent == []
