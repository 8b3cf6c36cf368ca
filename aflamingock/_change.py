"""What a user writes: a change, the decorator that declares it, the order in a file's name."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable, Collection, Mapping, Set
from dataclasses import dataclass, field
from inspect import CO_VARARGS, CO_VARKEYWORDS
from types import FunctionType, MappingProxyType
from typing import Any, TypeVar

from ._states import Recovery

ClassT = TypeVar("ClassT", bound=type)

_DECLARED = "__flamingock_change__"
_ORDER_IN_NAME = re.compile(
    r"_(?P<order>[A-Za-z0-9.-]+(?:_[0-9]+)*)__.+|_(?P<digits>[0-9]+)_.+", re.DOTALL
)


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Declaration:
    """What was given to :func:`change`, good or bad, as it was given."""

    id: Any
    author: Any
    target_system: Any = None
    order: Any = None
    transactional: Any = True
    recovery: Any = Recovery.MANUAL_INTERVENTION
    timeout: Any = None
    tags: Any = ()
    profiles: Any = ()
    depends_on: Any = ()
    run_always: Any = False
    metadata: Any = None


@dataclass(frozen=True, slots=True, kw_only=True, eq=False)
class Change:
    """
    One versioned step: ``execute`` and, where it can be taken back, ``rollback``.

    :ivar order: its place in its stage, compared as text
    :ivar timeout: how long ``execute`` may take, in seconds
    :ivar module: the dotted name of its module, the same on every machine
    :ivar file: where a person finds it
    :ivar source: its file below the package or folder, the same on every machine
    :ivar checksum: what its code comes to; ``None`` where there is no source
    """

    id: str
    author: str
    order: str
    target_system: str | None = None
    transactional: bool = True
    recovery: Recovery = Recovery.MANUAL_INTERVENTION
    timeout: float | None = None
    tags: tuple[str, ...] = ()
    profiles: tuple[str, ...] = ()
    depends_on: tuple[str, ...] = ()
    run_always: bool = False
    metadata: Mapping[str, Any] = field(default_factory=lambda: MappingProxyType({}))
    cls: type
    module: str = ""
    file: str | None = None
    line: int | None = None
    source: str | None = None
    checksum: str | None = None

    @classmethod
    def from_declaration(
        cls,
        declared: type,
        declaration: Declaration,
        *,
        order: str,
        module: str = "",
        file: str | None = None,
        line: int | None = None,
        source: str | None = None,
        checksum: str | None = None,
    ) -> Change:
        """
        Build the change of a decorated class.

        What is wrong in the declaration is replaced by what is harmless, so that the other rules
        can be checked in the same go; :mod:`aflamingock._discovery.fault` names it.
        """
        given = declaration
        return cls(
            id=given.id if isinstance(given.id, str) else repr(given.id),
            author=given.author if isinstance(given.author, str) else repr(given.author),
            order=order,
            target_system=given.target_system if isinstance(given.target_system, str) else None,
            transactional=given.transactional is not False,
            recovery=_as_recovery(given.recovery),
            timeout=float(given.timeout) if is_duration(given.timeout) else None,
            tags=as_texts(given.tags),
            profiles=as_texts(given.profiles),
            depends_on=as_texts(given.depends_on),
            run_always=given.run_always is True,
            metadata=_as_metadata(given.metadata),
            cls=declared,
            module=module or declared.__module__,
            file=file,
            line=line,
            source=source,
            checksum=checksum,
        )

    @property
    def has_rollback(self) -> bool:
        """Whether the change can be taken back."""
        return getattr(self.cls, "rollback", None) is not None

    @property
    def has_verify(self) -> bool:
        """Whether the change can tell, after a crash, what really happened."""
        return getattr(self.cls, "verify", None) is not None

    @property
    def invoked_class(self) -> str:
        """The class as the audit log names it."""
        return f"{self.module or self.cls.__module__}.{self.cls.__qualname__}"


def change(
    *,
    id: str,
    author: str,
    target_system: str | None = None,
    order: str | None = None,
    transactional: bool = True,
    recovery: Recovery = Recovery.MANUAL_INTERVENTION,
    timeout: float | None = None,
    tags: Collection[str] = (),
    profiles: Collection[str] = (),
    depends_on: Collection[str] = (),
    run_always: bool = False,
    metadata: Mapping[str, Any] | None = None,
) -> Callable[[ClassT], ClassT]:
    """
    Declare a class to be a change.

    The class has ``execute`` and may have ``rollback`` and ``verify``. Nothing is checked here:
    what is wrong in any change is found, all of it together, before the first one is run.

    :param id: what the audit log calls it, for ever: 1 to 190 letters, digits and ``._:@/-``,
        the first one a letter or a digit
    :param target_system: the id of the system that it touches; ``None`` for none with
        transactions
    :param order: its place in its stage, compared as text; only where the file's name gives none
    :param transactional: run it in a transaction if its target system has them
    :param recovery: what to do if it is left unfinished and no database can judge
    :param timeout: how long ``execute``, a coroutine, may take, in seconds; ``None`` for ever
    :param profiles: leave it out unless one of these is active; none means always
    :param depends_on: ids of changes that have to come before it
    :param run_always: run it again in every run
    :param metadata: JSON values for the audit log
    :return: a decorator that gives the class back, unchanged but for the declaration
    """
    declaration = Declaration(
        id=id,
        author=author,
        target_system=target_system,
        order=order,
        transactional=transactional,
        recovery=recovery,
        timeout=timeout,
        tags=tags,
        profiles=profiles,
        depends_on=depends_on,
        run_always=run_always,
        metadata=metadata,
    )

    def declare(declared: ClassT) -> ClassT:
        setattr(declared, _DECLARED, declaration)
        return declared

    return declare


def declaration_of(declared: object) -> Declaration | None:
    """Return what an object itself was declared with, not what it inherits."""
    if not issubclass(type(declared), type | FunctionType):  # isinstance() would ask a proxy
        return None

    declaration = vars(declared).get(_DECLARED)
    return declaration if isinstance(declaration, Declaration) else None


def member_of(declared: type, name: str) -> object:
    """Return a member of a class as it stands there, or in a class above; ``None`` without one."""
    return next((vars(cls)[name] for cls in declared.__mro__ if name in vars(cls)), None)


def takes_only_self(method: FunctionType) -> bool:
    """Say whether a method surely asks for nothing; far quicker than to look at its signature."""
    code = method.__code__
    takes_more = code.co_kwonlyargcount or code.co_flags & (CO_VARARGS | CO_VARKEYWORDS)
    # a decorator leaves in the dictionary what the signature really is
    return code.co_argcount == 1 and not takes_more and not vars(method)


def order_in_name(stem: str) -> str | None:
    """
    Return the order that a file's name gives.

    :param stem: the name without ``.py``: ``_0001__create_users``, or ``_0001_create_users``
        where the order is made of digits only
    """
    found = _ORDER_IN_NAME.fullmatch(stem)
    return found and (found["order"] or found["digits"])


def is_duration(value: object) -> bool:
    """Say whether *value* can be a time in seconds: a number above 0, and finite."""
    return (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 < value <= sys.float_info.max
    )


def is_texts(value: object) -> bool:
    """Say whether *value* is a collection of texts, and not a text itself."""
    return (
        isinstance(value, Collection)
        and not isinstance(value, str | bytes | Mapping)
        and all(isinstance(text, str) and text for text in value)
    )


def as_texts(value: Any) -> tuple[str, ...]:
    """Return a collection of texts in an order that is always the same; nothing of a bad one."""
    if not is_texts(value):
        return ()

    return tuple(sorted(value) if isinstance(value, Set) else value)


def _as_recovery(value: Any) -> Recovery:
    return value if isinstance(value, Recovery) else Recovery.MANUAL_INTERVENTION


def _as_metadata(value: Any) -> Mapping[str, Any]:
    return MappingProxyType(dict(value) if isinstance(value, Mapping) else {})
