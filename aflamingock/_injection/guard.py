"""Keep the code of changes from going on after the lease ended."""

from __future__ import annotations

import functools
import inspect
import os
import types
from asyncio import CancelledError
from collections.abc import Callable, Coroutine, Generator
from dataclasses import is_dataclass
from datetime import date, time, timedelta, tzinfo
from enum import Enum
from numbers import Number
from typing import Any, TypeVar

from ..abc import ChangeContext
from ..exceptions import LockLostError

T = TypeVar("T")

Check = Callable[[], None]
"""Raises :exc:`LockLostError` once the lease has ended."""

# What has no behaviour of its own that could reach out of the process.
_DATA = (
    *(types.NoneType, str, bytes, bytearray, Number, date, time, timedelta, tzinfo),
    *(list, tuple, dict, set, frozenset, Enum, os.PathLike, ChangeContext),
    *(type, types.GenericAlias, types.ModuleType),
)
# As above; it takes long to import.
_DATA_MODULES = frozenset({"uuid"})
# What a class needs for itself, and what would end the real object together with its stand-in.
_OWN = {
    *("__class__", "__class_getitem__", "__init_subclass__", "__subclasshook__"),
    *("__new__", "__init__", "__del__"),
    *("__getattribute__", "__getattr__", "__setattr__", "__delattr__"),
}


async def fenced(coroutine: Coroutine[Any, Any, T], check: Check) -> T:
    """
    Await *coroutine*, and call *check* before each of its steps.

    A timer, or a call from another thread, cannot stop it for sure: when a process goes on after
    a SIGSTOP, both the answer that the coroutine waits for and the timer are due, and the loop may
    well run the coroutine's next step first. So the step itself asks. From then on the coroutine
    is cancelled wherever it waits, as often as it waits and whatever it catches. Tasks that it has
    started end with their task group; until then :func:`guarded` stands in their way.

    :param check: raises :exc:`LockLostError` once the lease has ended
    :return: what the coroutine returns
    :raises LockLostError: if the lease ended before the last step, whatever the coroutine did then
    """
    return await _steps(coroutine, check)


@types.coroutine
def _steps(coroutine: Coroutine[Any, Any, T], check: Check) -> Generator[Any, Any, T]:
    step: Callable[[], Any] = functools.partial(coroutine.send, None)
    lost: LockLostError | None = None
    try:
        while True:
            lost = lost or _loss(check)
            if lost:
                # Also in the place of a scope's own cancellation: that scope would swallow it.
                step = functools.partial(coroutine.throw, CancelledError("the lease has ended"))

            try:
                awaited = step()
            except StopIteration as end:
                result: T = end.value
                break
            except BaseException as end:
                if lost:
                    raise lost from (lost.__cause__ or end)  # which names the line that was cut

                raise

            try:
                step = functools.partial(coroutine.send, (yield awaited))
            except GeneratorExit:
                raise
            except BaseException as exc:
                step = functools.partial(coroutine.throw, exc)
    finally:
        coroutine.close()

    if lost:
        raise lost

    return result


def _loss(check: Check) -> LockLostError | None:
    try:
        check()
    except LockLostError as exc:
        return exc

    return None


def guarded(obj: T, check: Check) -> T:
    """
    Return a stand-in for *obj* that raises :exc:`LockLostError` once the lease has ended.

    It passes for the object, also with ``isinstance``. Whatever is called, of its methods or its
    special methods or the object itself, is checked as it begins, and so is reading an attribute
    that is more than data, as in ``client.orders.insert(...)``; what comes back is the real thing.
    Data (dataclasses, too), classes and modules are given back as they are.

    :param check: raises :exc:`LockLostError` once the lease has ended
    """
    if _is_data(obj):
        return obj

    if inspect.isroutine(obj):
        wrapped: T = _guarded_function(obj, check)
        return wrapped

    def read(_: object, name: str) -> Any:
        value = getattr(obj, name)
        if callable(value) and inspect.isroutine(value):
            return _guarded_function(value, check)

        if not _is_data(value):
            check()

        return value

    members: dict[str, Any] = {
        name: _guarded_special(obj, name, check)
        for name in dir(type(obj))
        if _is_special(obj, name)
    }
    members["__getattribute__"] = read
    members["__setattr__"] = lambda _, name, value: setattr(obj, name, value)
    members["__delattr__"] = lambda _, name: delattr(obj, name)
    stand_in: T = type("Guarded", (), members)()
    return stand_in


def _is_data(obj: object) -> bool:
    kind = type(obj)
    return isinstance(obj, _DATA) or is_dataclass(obj) or kind.__module__ in _DATA_MODULES


def _is_special(obj: object, name: str) -> bool:
    if name in _OWN or not (name.startswith("__") and name.endswith("__")):
        return False

    # ``None`` is how a class says that it cannot be hashed, iterated and the like.
    method = getattr(type(obj), name, NotImplemented)
    return method is None or callable(method)


def _guarded_special(obj: object, name: str, check: Check) -> Any:
    method = getattr(type(obj), name)

    def call(_: object, /, *args: Any, **kwargs: Any) -> Any:
        check()
        return method(obj, *args, **kwargs)

    return None if method is None else call


def _guarded_function(function: Any, check: Check) -> Any:
    @functools.wraps(function)
    def call(*args: Any, **kwargs: Any) -> Any:
        check()
        return function(*args, **kwargs)

    @functools.wraps(function)
    async def begin(*args: Any, **kwargs: Any) -> Any:
        check()
        return await function(*args, **kwargs)

    return begin if inspect.iscoroutinefunction(function) else call
