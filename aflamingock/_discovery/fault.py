"""What can be wrong in a change, found before anything is run."""

from __future__ import annotations

import inspect
import json
import re
from collections.abc import Iterator, Mapping
from types import FunctionType
from typing import Any

from .._change import Declaration, is_duration, is_texts, member_of, takes_only_self
from .._states import Recovery
from ..exceptions import ChangeLoadError

_ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,189}")
_ORDER = re.compile(r"[A-Za-z0-9.-][A-Za-z0-9._-]{0,99}")
_NAMED = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)
_METHODS = ("execute", "rollback", "verify")


def value_faults(
    declared: type,
    given: Declaration,
    *,
    order_in_file: str | None,
    file: str | None,
    line: int | None,
) -> list[ChangeLoadError]:
    """
    Return everything that is wrong in what ``@change`` was given.

    :param order_in_file: the order that the name of the class's file gives, if it gives one
    """
    return [
        ChangeLoadError(f"{declared.__qualname__}: {wrong}", file=file, line=line)
        for wrong in (
            *_identity(given),
            *_order(given, order_in_file),
            *_behaviour(declared, given),
            *_collections(given),
            *_metadata(given.metadata),
        )
    ]


def method_faults(declared: type, *, file: str | None, line: int | None) -> list[ChangeLoadError]:
    """Return everything that is wrong in the class itself, so that it could not be called."""
    faults = [
        ChangeLoadError(f"{declared.__qualname__}: {wrong}", file=file, line=line)
        for wrong in _construction(declared)
    ]
    for name in _METHODS:
        method = member_of(declared, name)
        code = getattr(inspect.unwrap(method), "__code__", None) if callable(method) else None
        faults.extend(
            ChangeLoadError(
                f"{declared.__qualname__}.{name}: {wrong}",
                file=file,
                line=code.co_firstlineno if code and name in vars(declared) else line,
            )
            for wrong in _method(name, method)
        )

    return faults


def _identity(given: Declaration) -> Iterator[str]:
    if not (isinstance(given.id, str) and _ID.fullmatch(given.id)):
        yield (
            f"id={_shown(given.id)} is not allowed. Give 1 to 190 letters, digits and ._:@/- that "
            "begin with a letter or a digit."
        )

    if not (isinstance(given.author, str) and given.author.strip()):
        yield f"author={_shown(given.author)} names nobody. Give a person or a team as text."

    target = given.target_system
    if target is not None and not (isinstance(target, str) and target):
        yield f"target_system={_shown(target)} is no id. Give the id of a target system, or None."


def _order(given: Declaration, order_in_file: str | None) -> Iterator[str]:
    if order_in_file is not None:
        if given.order is not None:
            yield (
                f"order={_shown(given.order)} is given although the file's name gives "
                f"{order_in_file!r}. Remove order=."
            )
    elif given.order is None:
        yield (
            "order= is missing. Give it as text, such as order='0001', or begin the file's name "
            "with it: _0001__name.py."
        )
    elif not (isinstance(given.order, str) and _ORDER.fullmatch(given.order)):
        yield (
            f"order={_shown(given.order)} is not allowed. Give it as text of letters, digits and "
            "._-, such as '0001'."
        )


def _behaviour(declared: type, given: Declaration) -> Iterator[str]:
    for name in ("transactional", "run_always"):
        value = getattr(given, name)
        if not isinstance(value, bool):
            yield f"{name}={_shown(value)} is not allowed. Give True or False."

    if not isinstance(given.recovery, Recovery):
        yield (
            f"recovery={_shown(given.recovery)} is not allowed. Give Recovery.MANUAL_INTERVENTION "
            "or Recovery.ALWAYS_RETRY."
        )

    if given.timeout is None:
        return

    if not is_duration(given.timeout):
        yield f"timeout={_shown(given.timeout)} is not allowed. Give seconds above 0, or None."

    execute = member_of(declared, "execute")
    if isinstance(execute, FunctionType) and not inspect.iscoroutinefunction(execute):
        yield (
            f"timeout={_shown(given.timeout)} cannot be kept: execute is a plain function, which "
            "cannot be cut off. Write async def execute, or remove timeout=."
        )


def _collections(given: Declaration) -> Iterator[str]:
    for name in ("tags", "profiles", "depends_on"):
        value = getattr(given, name)
        if isinstance(value, str):
            yield f"{name}={_shown(value)} is a single text. Give a tuple: {name}=({value!r},)."
        elif not is_texts(value):
            yield f"{name}={_shown(value)} is not allowed. Give a tuple of texts."


def _metadata(metadata: Any) -> Iterator[str]:
    if metadata is None:
        return

    if not isinstance(metadata, Mapping):
        yield f"metadata={_shown(metadata)} is not allowed. Give a dict of JSON values."
        return

    for name, value in metadata.items():
        if not (isinstance(name, str) and _is_json(value)):
            yield (
                f"metadata[{_shown(name)}]={_shown(value)} cannot be stored as JSON. Use texts as "
                "names, and texts, finite numbers, booleans, None, lists and dicts as values."
            )


def _is_json(value: object) -> bool:
    try:
        return bool(json.loads(json.dumps(value, allow_nan=False)) == value)
    except (TypeError, ValueError, RecursionError):
        return False


def _construction(declared: type) -> Iterator[str]:
    if inspect.isabstract(declared):
        yield "the class is abstract. Implement what is missing: a change is made and called."
        return

    if not any({"__init__", "__new__"} & vars(cls).keys() for cls in declared.__mro__[:-1]):
        return

    try:
        parameters = inspect.signature(declared).parameters.values()
    except (ValueError, TypeError, NameError):  # nothing is known; making it will tell
        return

    if any(
        parameter.default is parameter.empty
        and parameter.kind not in (parameter.VAR_POSITIONAL, parameter.VAR_KEYWORD)
        for parameter in parameters
    ):
        yield (
            "the class cannot be made without arguments. Let execute ask for what __init__ "
            "asks for."
        )


def _method(name: str, method: object) -> Iterator[str]:
    if method is None:
        if name == "execute":
            yield "it is missing. Write async def execute(self, ...)."

        return

    if not isinstance(method, FunctionType):
        yield (
            f"it is of the type {type(method).__name__}, not a method. Write async def "
            f"{name}(self, ...), or def."
        )
        return

    if inspect.isasyncgenfunction(method) or inspect.isgeneratorfunction(method):
        yield "it has a yield, so that calling it would do nothing. Remove the yield."

    wrapped = inspect.unwrap(method)
    if inspect.iscoroutinefunction(wrapped) and not inspect.iscoroutinefunction(method):
        yield (
            "a decorator makes a plain function of the coroutine. Let the decorator return an "
            "async def."
        )

    if not takes_only_self(method):
        yield from _signature(name, method)


def _signature(name: str, method: FunctionType) -> Iterator[str]:
    try:
        first, *others = inspect.signature(method).parameters.values()
    except (ValueError, TypeError, NameError):  # ValueError: there is no first one
        yield f"its parameters cannot be read. Write async def {name}(self, ...)."
        return

    if first.kind in (first.VAR_KEYWORD, first.KEYWORD_ONLY, first.VAR_POSITIONAL):
        yield f"it does not take self. Write async def {name}(self, ...)."
        return

    for parameter in others:
        if parameter.kind not in _NAMED:
            bare = parameter.replace(annotation=parameter.empty)
            yield (
                f"its parameter {str(bare)!r} cannot be given by name, so that nobody can "
                "provide it. Name each object that it needs as a parameter of its own."
            )


def _shown(value: object) -> str:
    shown = repr(value)
    return shown if len(shown) <= 100 else f"{shown[:97]}..."
