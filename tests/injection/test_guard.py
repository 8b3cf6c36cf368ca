"""The guard around what the code of changes uses."""

from __future__ import annotations

import copy
import functools
import gc
import inspect
import weakref
from collections.abc import Callable, Coroutine, Mapping
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
from aflamingock.exceptions import LockLostError
from tests.injection.kit import CONTEXT, Lease
from tests.injection.mailer import Mailer


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
