"""Give a coroutine the arguments that its annotations ask for."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass

from .._change import Change, member_of
from ..abc import AuditStore, ChangeContext, Offer
from ..exceptions import InjectionError
from .guard import Check, guarded
from .parameter import Parameter, parameters_of

_METHODS = ("execute", "rollback", "verify")
_SESSION = "session"
_RUN, _TARGET, _DEPENDENCIES = "the run", "the target system", "dependencies"
# Where a type comes from that fits by accident: a string is hardly the string that was meant.
_VAGUE = ("builtins", "collections.abc")


@dataclass(frozen=True, slots=True, kw_only=True)
class _Candidate:
    """Something that can be handed over; *value* is unknown where a change is only checked."""

    names: tuple[str, ...]
    kind: type
    source: str
    value: object = None

    def fits(self, parameter: Parameter) -> bool:
        return any(
            self._is_a(wanted) and (wanted.__module__ not in _VAGUE or parameter.name in self.names)
            for wanted in parameter.types
        )

    def _is_a(self, wanted: type) -> bool:
        if self.source == _DEPENDENCIES:
            return isinstance(self.value, wanted)

        try:
            return issubclass(self.kind, wanted)
        except TypeError:  # a protocol with attributes can be asked of objects only
            return False


class _UnresolvedError(Exception):
    """A parameter cannot be provided; the message says why and what to do."""


class Injector:
    """
    Finds what parameters ask for: in the change's context, its target system, the dependencies.

    An annotation asks for a type, and among several of it the parameter's name decides. Without
    an annotation, or with one that says little such as ``str``, the name has to be the same.

    :param dependencies: the application's own objects, by name
    """

    def __init__(self, dependencies: Mapping[str, object]) -> None:
        self._dependencies = tuple(
            _Candidate(names=(name,), kind=type(value), source=_DEPENDENCIES, value=value)
            for name, value in dependencies.items()
        )
        self._known: dict[Callable[..., object], tuple[Parameter, ...]] = {}

    def faults(self, change: Change, offers: Sequence[Offer]) -> list[InjectionError]:
        """
        Return a fault for each parameter of a change that nobody can provide.

        What is no method at all is left to the rules of the pipeline.

        :param offers: what the change's target system gives
        """
        candidates = self._candidates(offers)
        faults = []
        for name in _METHODS:
            method = member_of(change.cls, name)
            if not isinstance(method, types.FunctionType):
                continue

            for parameter in self._parameters(method):
                try:
                    _resolve(parameter, candidates)
                except _UnresolvedError as exc:
                    file, line = _place(change, method)
                    faults.append(_fault(change.id, name, parameter, exc, file, line))

        return faults

    def session_faults(self, change: Change, offers: Sequence[Offer]) -> list[InjectionError]:
        """
        Return a fault for ``execute`` and ``rollback`` each, if it does not take the session.

        For target systems whose driver cannot bind it: what does not get the session would not be
        part of the transaction.

        :param offers: what the change's target system gives
        """
        candidates = self._candidates(offers)
        faults = []
        for name in ("execute", "rollback"):
            method = member_of(change.cls, name)
            if isinstance(method, types.FunctionType) and not self._takes(method, candidates):
                file, line = _place(change, method)
                faults.append(
                    InjectionError(
                        f"Change {change.id!r}, {name}: it is to run in a transaction, but does "
                        f"not take the parameter {_SESSION!r}, which this driver cannot do "
                        "without. Take it and pass it to each call, or give the change "
                        "transactional=False.",
                        change_id=change.id,
                        parameter=_SESSION,
                        file=file,
                        line=line,
                    )
                )

        return faults

    def _takes(self, method: types.FunctionType, candidates: Sequence[_Candidate]) -> bool:
        for parameter in self._parameters(method):
            with suppress(_UnresolvedError):
                found = _resolve(parameter, candidates)
                if found is not None and _SESSION in found.names:
                    return True

        return False

    def arguments(
        self,
        function: Callable[..., object],
        *,
        context: ChangeContext,
        offers: Sequence[Offer],
        objects: Mapping[str, object],
        check: Check,
        guard_objects: bool,
    ) -> dict[str, object]:
        """
        Return the arguments for a method of a change, by name.

        :param function: the method of the change's object
        :param offers: what the change's target system gives
        :param objects: the objects of the offers, by their first names
        :param check: raises :exc:`LockLostError` once the lease has ended
        :param guard_objects: whether *objects* are guarded as the dependencies are; a transaction
            is not, because it is not committed after the lease ended
        :raises InjectionError: if a parameter cannot be provided
        """
        candidates = self._candidates(offers, objects, context)
        arguments: dict[str, object] = {}
        for parameter in self._parameters(getattr(function, "__func__", function)):
            try:
                found = _resolve(parameter, candidates)
            except _UnresolvedError as exc:
                raise _fault(context.change_id, function.__name__, parameter, exc) from None

            if found is not None:
                is_guarded = parameter.guarded and (guard_objects or found.source != _TARGET)
                value = guarded(found.value, check) if is_guarded else found.value
                arguments[parameter.name] = value
            elif not parameter.has_default:
                arguments[parameter.name] = None

        return arguments

    def _candidates(
        self,
        offers: Sequence[Offer],
        objects: Mapping[str, object] | None = None,
        context: ChangeContext | None = None,
    ) -> tuple[_Candidate, ...]:
        given = (
            _Candidate(
                names=offer.names,
                kind=offer.type,
                source=_TARGET,
                value=objects and objects[offer.names[0]],
            )
            for offer in offers
            if objects is None or offer.names[0] in objects
        )
        names = ("ctx", "context")
        own = _Candidate(names=names, kind=ChangeContext, source=_RUN, value=context)
        return (own, *given, *self._dependencies)

    def _parameters(self, method: Callable[..., object]) -> tuple[Parameter, ...]:
        if method not in self._known:
            self._known[method] = parameters_of(method)

        return self._known[method]


def _resolve(parameter: Parameter, candidates: Sequence[_Candidate]) -> _Candidate | None:
    if any(issubclass(wanted, AuditStore) for wanted in parameter.types):
        raise _UnresolvedError("the audit store is never given to changes. Remove the parameter.")

    name = parameter.named or parameter.name
    if parameter.named or not parameter.types:
        fitting = [candidate for candidate in candidates if name in candidate.names]
    else:
        fitting = [candidate for candidate in candidates if candidate.fits(parameter)]

    for candidate in fitting:
        if name in candidate.names:
            return candidate

    nearest = [candidate for candidate in fitting if candidate.source == fitting[0].source]
    if len(nearest) > 1:
        raise _UnresolvedError(
            f"more than one object fits: {_listed(nearest)}. Call the parameter by the name of the "
            'one that is meant, or annotate it with Annotated[..., Named("...")].'
        )

    if nearest or parameter.optional:
        return nearest[0] if nearest else None

    problem = (
        f"its annotation cannot be evaluated ({parameter.unreadable}), and nothing has its name"
    )
    raise _UnresolvedError(
        f"{problem if parameter.unreadable else 'nobody can provide it'}. There is "
        f"{_listed(candidates)}. Add it to dependencies={{{name!r}: ...}}, or set the "
        "target_system of the change to the one that gives it."
    )


def _place(change: Change, method: types.FunctionType) -> tuple[str | None, int]:
    code = getattr(inspect.unwrap(method), "__code__", method.__code__)
    is_inherited = method.__module__ != change.cls.__module__
    return code.co_filename if is_inherited else change.file, code.co_firstlineno


def _fault(
    change_id: str,
    method: str,
    parameter: Parameter,
    reason: Exception,
    file: str | None = None,
    line: int | None = None,
) -> InjectionError:
    message = f"Change {change_id!r}, {method}({parameter.shown}): {reason}"
    return InjectionError(
        message, change_id=change_id, parameter=parameter.name, file=file, line=line
    )


def _listed(candidates: Sequence[_Candidate]) -> str:
    return "; ".join(
        f"{' or '.join(c.names)}: {_title(c.kind)} (from {c.source})" for c in candidates
    )


def _title(cls: type) -> str:
    module = "" if cls.__module__ == "builtins" else f"{cls.__module__}."
    return module + cls.__qualname__
