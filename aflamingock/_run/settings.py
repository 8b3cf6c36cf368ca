"""What a Flamingock was given, checked."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from types import UnionType
from typing import TYPE_CHECKING, Any, Literal, TypeVar, get_args

from .._change import is_texts
from .._options import AuditOptions, LockOptions, OnHistory
from .._payload import redacted
from .._pipeline import Location, Stage
from .._retry import Retries
from ..abc import AuditStore, TargetSystem
from ..exceptions import ConfigurationError

if TYPE_CHECKING:
    from .._injection.injection import Injector

T = TypeVar("T")

TransactionMode = Literal["shared", "separate"]
"""Whether a change and its entry may share a transaction where the store and the target do."""

_SERVICE = re.compile(r"[A-Za-z0-9][A-Za-z0-9._:@/-]{0,189}")


@dataclass(frozen=True, kw_only=True, eq=False)
class Settings:
    """
    What a Flamingock was given.

    :ivar targets: by id; under ``None`` the one of changes that name none
    """

    stages: tuple[Stage, ...]
    audit_store: AuditStore[Any]
    targets: Mapping[str | None, TargetSystem]
    dependencies: Mapping[str, object]
    service: str
    environment: str | None
    profiles: tuple[str, ...]
    lock: LockOptions
    audit: AuditOptions
    metadata: Mapping[str, Any]
    enabled: bool
    on_drift: OnHistory
    on_out_of_order: OnHistory
    transaction_mode: TransactionMode
    retries: Retries = field(default_factory=Retries)

    @cached_property
    def injector(self) -> Injector:
        """What hands the dependencies over; only who has changes to load needs it."""
        from .._injection.injection import Injector

        return Injector(self.dependencies)

    def of_digest(self) -> dict[str, object]:
        """Return what, beside the files, decides whether something is pending."""
        return {
            "environment": self.environment,
            "profiles": sorted(self.profiles),
            "targets": sorted(id for id in self.targets if id is not None),
            "on_drift": self.on_drift,
            "on_out_of_order": self.on_out_of_order,
            "transaction_mode": self.transaction_mode,
        }


def check_stages(
    changes: Location | Sequence[Location] | None, stages: Iterable[Stage] | None
) -> tuple[Stage, ...]:
    """
    Return the stages that *changes* or *stages* mean.

    :raises ConfigurationError: if both are given
    """
    if changes is not None and stages is not None:
        raise ConfigurationError("Give either changes= or stages=, not both.")

    if changes is not None:
        return (Stage("default", location=changes),)

    given = tuple(check_type("stages", stages or (), Iterable, "a list of stages"))
    for stage in given:
        if not isinstance(stage, Stage):
            raise ConfigurationError(f"stages=: {_shown(stage)} is no Stage.")

    return given


def check_store(store: object) -> AuditStore[Any]:
    """
    Return the store.

    :raises ConfigurationError: if there is none
    """
    if isinstance(store, AuditStore):
        return store

    given = "none was given" if store is None else f"{_shown(store)} is none"
    raise ConfigurationError(
        f"An audit store is needed, and {given}. Pass audit_store=, for example "
        "SQLiteAuditStore('audit.db')."
    )


def check_targets(targets: Iterable[object]) -> dict[str | None, TargetSystem]:
    """
    Return the target systems by their ids.

    :raises ConfigurationError: if one is no target system, or two have the same id
    """
    by_id: dict[str | None, TargetSystem] = {}
    for target in check_type("target_systems", targets, Iterable, "a list of target systems"):
        if not isinstance(target, TargetSystem):
            raise ConfigurationError(f"target_systems=: {_shown(target)} is no TargetSystem.")

        check_type("the id of a target system, id", target.id, str, "a text")

        if target.id in by_id:
            raise ConfigurationError(f"target_systems=: two of them have the id {target.id!r}.")

        by_id[target.id] = target

    return by_id


def check_dependencies(given: Mapping[str, object] | Iterable[object]) -> dict[str, object]:
    """
    Return the dependencies by their names; what has none is found by its type alone.

    :raises ConfigurationError: if they are neither a mapping nor a list, or one is an audit store
    """
    check_type("dependencies", given, Iterable, "a mapping of names to objects, or a list")
    if not isinstance(given, Mapping):
        given = {f"{type(value).__name__} #{number}": value for number, value in enumerate(given)}

    for name, value in given.items():
        if isinstance(value, AuditStore):
            raise ConfigurationError(
                f"The dependency {name!r} ({type(value).__qualname__}) is an audit store, and the "
                "audit store is never given to changes. Take it out of the dependencies."
            )

    return dict(given)


def check_type(name: str, value: Any, kind: type | UnionType, wanted: str) -> Any:
    """
    Return *value*.

    :raises ConfigurationError: if it is not of that kind
    """
    if not isinstance(value, kind):
        raise ConfigurationError(f"{name}={_shown(value)}: give {wanted}.")

    return value


def _shown(value: object) -> str:
    # A URL at the wrong place may hold a password.
    return redacted(repr(value))


def check_options(name: str, value: Any, kind: type[T]) -> T:
    """
    Return *value*, or the defaults for ``None``.

    :param kind: a class of options
    :raises ConfigurationError: if *value* is not of that kind
    """
    options: T = check_type(name, kind() if value is None else value, kind, f"{kind.__name__}(...)")
    return options


def check_metadata(value: Any) -> dict[str, Any]:
    """
    Return *value* as a dictionary.

    :raises ConfigurationError: if it is neither a mapping nor ``None``
    """
    return dict(check_type("metadata", {} if value is None else value, Mapping, "a mapping"))


def check_listeners(given: Any) -> Sequence[tuple[Any, Any]]:
    """
    Return *given*.

    :raises ConfigurationError: if it is not a list of pairs
    """
    wanted = "a list of pairs of an event type and a listener"
    pairs = list(check_type("listeners", given, Iterable, wanted))
    for pair in pairs:
        if not (isinstance(pair, Sequence) and len(pair) == 2):
            raise ConfigurationError(f"listeners=: {pair!r} is no pair; give {wanted}.")

    return pairs


def check_texts(name: str, values: Collection[str]) -> tuple[str, ...]:
    """
    Return *values* as a tuple.

    :raises ConfigurationError: if it is not a collection of texts
    """
    if not is_texts(values):
        raise ConfigurationError(f"{name}={values!r}: give a list of texts.")

    return tuple(values)


def check_service(service: object) -> str:
    """
    Return the name of the service.

    :raises ConfigurationError: if it is not 1 to 190 letters, digits and ``._:@/-``
    """
    if not (isinstance(service, str) and _SERVICE.fullmatch(service)):
        raise ConfigurationError(
            f"service={service!r}: give 1 to 190 letters, digits and ._:@/- that begin with a "
            "letter or a digit."
        )

    return service


def check_choice(name: str, value: str, choices: Any) -> Any:
    """
    Return *value*.

    :param choices: a ``Literal`` type
    :raises ConfigurationError: if *value* is none of them
    """
    if value not in get_args(choices):
        listed = ", ".join(map(repr, get_args(choices)))
        raise ConfigurationError(f"{name}={value!r}: give one of {listed}.")

    return value
