"""What a parameter asks for, by its annotation and its name."""

from __future__ import annotations

import inspect
import types
import typing
from collections.abc import Callable
from dataclasses import dataclass
from typing import Annotated, Any, Union

from .._change import takes_only_self
from .annotation import Named, NonLockGuarded

_BY_NAME = (inspect.Parameter.POSITIONAL_OR_KEYWORD, inspect.Parameter.KEYWORD_ONLY)


@dataclass(frozen=True, slots=True, kw_only=True)
class Parameter:
    """
    What a parameter asks for.

    :ivar shown: how it is written
    :ivar types: one of these is wanted; empty if the name decides
    :ivar named: the name given by :class:`Named`
    :ivar unreadable: why the annotation cannot be evaluated
    """

    name: str
    shown: str
    types: tuple[type, ...]
    named: str | None
    guarded: bool
    optional: bool
    has_default: bool
    unreadable: Exception | None


def parameters_of(method: Callable[..., object]) -> tuple[Parameter, ...]:
    """
    Return what the parameters of a method ask for, but for ``self``.

    Those that cannot be given by name are left out; so are all of them if they cannot be read.

    :param method: the function, as it stands in its class
    """
    if isinstance(method, types.FunctionType) and takes_only_self(method):
        return ()

    try:
        given = list(inspect.signature(method).parameters.values())[1:]
    except (NameError, TypeError, ValueError):
        return ()

    asked = [parameter for parameter in given if parameter.kind in _BY_NAME]
    hints = _hints(method) if asked else {}
    return tuple(_parameter(parameter, hints.get(parameter.name, Any)) for parameter in asked)


def _parameter(given: inspect.Parameter, hint: Any) -> Parameter:
    unreadable = hint if isinstance(hint, Exception) else None
    wanted, notes = _split(Any if unreadable else hint)
    classes = tuple(one for one in wanted if one is not types.NoneType)
    has_default = given.default is not given.empty
    text = given.annotation
    if not isinstance(text, str):
        text = "" if text is given.empty else inspect.formatannotation(text)

    return Parameter(
        name=given.name,
        shown=f"{given.name}: {text}" if text else given.name,
        types=classes if all(_tells(one) for one in classes) else (),
        named=next((note.name for note in notes if isinstance(note, Named)), None),
        guarded=not any(n is NonLockGuarded or isinstance(n, NonLockGuarded) for n in notes),
        optional=has_default or types.NoneType in wanted,
        has_default=has_default,
        unreadable=unreadable,
    )


def _split(hint: Any) -> tuple[list[Any], list[Any]]:
    """Return the classes of an annotation, and the notes of its ``Annotated``."""
    if type(hint).__name__ == "TypeAliasType":  # ``type X = ...``, from Python 3.12 on
        return _split(hint.__value__)

    origin = typing.get_origin(hint)
    if origin is Annotated:
        classes, notes = _split(hint.__origin__)
        return classes, [*hint.__metadata__, *notes]

    if origin in (Union, types.UnionType):
        parts = [_split(part) for part in typing.get_args(hint)]
        return [c for part in parts for c in part[0]], [n for part in parts for n in part[1]]

    return [origin or hint], []


def _tells(wanted: Any) -> bool:
    """Say whether objects can be told by this class."""
    try:
        return isinstance(None, wanted) is False
    except TypeError:  # Any, a type variable, a protocol that is not checked at run time
        return False


def _hints(function: Any) -> dict[str, Any]:
    """Return the annotations by name; in the place of one that cannot be evaluated, the error."""
    try:
        return typing.get_type_hints(function, include_extras=True)
    except Exception:  # to evaluate is to run code that raises anything; try them one by one
        pass

    def probe() -> None: ...

    hints: dict[str, Any] = {}
    names = getattr(inspect.unwrap(function), "__globals__", function.__globals__)
    for name, annotation in function.__annotations__.items():
        probe.__annotations__ = {name: annotation}
        try:
            hints |= typing.get_type_hints(probe, names, include_extras=True)
        except Exception as exc:  # reported if the name of the parameter does not help either
            hints[name] = exc

    return hints
