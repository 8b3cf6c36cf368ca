"""Who gets what: parameters, annotations and names."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Generic, Protocol, TypeVar, runtime_checkable

import pytest

from aflamingock._change import Change
from aflamingock._injection.injection import Injector, Named, NonLockGuarded
from aflamingock.abc import AuditStore, ChangeContext, Offer
from aflamingock.exceptions import ConfigurationError, InjectionError, LockLostError

if TYPE_CHECKING:
    from elsewhere import Unseen  # type: ignore[import-not-found]  # as names only types know

T = TypeVar("T")


class Sender:
    def send(self) -> str:
        return "sent"


class Mailer(Sender):
    pass


class Queue(Generic[T]):
    def put(self) -> str:
        return "put"


@runtime_checkable
class CanPut(Protocol):
    def put(self) -> str: ...


@runtime_checkable
class HasTopic(Protocol):
    topic: str


class Unchecked(Protocol):
    def put(self) -> str: ...


class Connection:
    def execute(self) -> str:
        return "executed"


class SQLConnection(Connection):
    pass


class Cursor:
    pass


class Store(AuditStore[Any]):
    def open_side_channel(self) -> AbstractAsyncContextManager[AuditStore[Any]] | None:
        return None


def concrete(cls: type) -> type:
    names: frozenset[str] = cls.__abstractmethods__  # type: ignore[attr-defined]  # typeshed hides it
    return type(cls.__name__, (cls,), dict.fromkeys(names))


class Colour(Enum):
    RED = 1


OFFERS = (
    Offer(names=("connection", "db", "session"), type=SQLConnection),
    Offer(names=("cursor",), type=Cursor),
)
OBJECTS: Mapping[str, object] = {"connection": SQLConnection(), "cursor": Cursor()}
CONTEXT = ChangeContext(
    service="s",
    environment=None,
    execution_id="e",
    stage="main",
    change_id="c-1",
    target_system="db",
    attempt=1,
    epoch=1,
    logger=logging.getLogger("test"),
    check=lambda: None,
)


def of(method: Callable[..., object], **more: object) -> Change:
    """Return a change whose ``execute`` is *method*."""
    members = {"execute": method, "__module__": method.__module__, **more}
    return Change(id="c-1", author="a", order="1", cls=type("C", (), members), file="c.py", line=1)


def faults(
    method: Callable[..., object], dependencies: Mapping[str, object], **more: object
) -> list[str]:
    found = Injector(dependencies).faults(of(method, **more), OFFERS)
    assert all(isinstance(fault, InjectionError) for fault in found)
    return [str(fault) for fault in found]


def arguments(
    method: Callable[..., object],
    dependencies: Mapping[str, object],
    *,
    offers: Sequence[Offer] = OFFERS,
    check: Callable[[], None] = lambda: None,
    guard_objects: bool = False,
) -> dict[str, object]:
    return Injector(dependencies).arguments(
        getattr(of(method).cls(), "execute"),  # noqa: B009 - the class is made at run time
        context=CONTEXT,
        offers=offers,
        objects=OBJECTS,
        check=check,
        guard_objects=guard_objects,
    )


def ended() -> None:
    raise LockLostError("The lease has ended.")


async def asks_nothing(self) -> None: ...
async def by_name(self, connection, ctx, context, retries): ...
async def by_type(self, it: Connection, run: ChangeContext, out: Sender) -> None: ...
async def by_union(self, it: Connection | Queue[int]) -> None: ...
async def by_generic(self, jobs: Queue[dict[str, int]]) -> None: ...
async def by_protocol(self, jobs: CanPut) -> None: ...
async def by_shape(self, jobs: HasTopic) -> None: ...
async def by_unchecked_protocol(self, jobs: Unchecked) -> None: ...
async def by_any(self, db: Any, cursor: object, jobs: T) -> None: ...
async def by_given_name(self, jobs: Annotated[Queue[int], Named("orders")]) -> None: ...
async def by_word(self, url: str, batch: int) -> None: ...
async def optional(self, out: Sender | None, jobs: Queue[int] | None = None, size: int = 7): ...
async def unguarded(
    self,
    out: Annotated[Sender, NonLockGuarded],
    jobs: Annotated[Queue[int], NonLockGuarded()] | None,
) -> None: ...
async def unseen(self, cursor: Unseen, jobs: Unseen, out: Sender) -> Unseen: ...
async def takes_all(self, cursor: Cursor, /, *rest: int, **more: int) -> None: ...
async def store(self, store: AuditStore[Any] | None = None, other: Store | None = None): ...


class TestFaults:
    @pytest.mark.parametrize(
        ("method", "dependencies"),
        [
            (asks_nothing, {}),
            (by_name, {"retries": 3}),
            (by_type, {"mailer": Mailer()}),
            (by_union, {}),
            (by_generic, {"orders": Queue()}),
            (by_protocol, {"orders": Queue()}),
            (by_unchecked_protocol, {"jobs": Queue()}),
            (by_any, {"jobs": Queue()}),
            (by_given_name, {"orders": Queue(), "bills": Queue()}),
            (by_word, {"url": "x", "batch": 1}),
            (optional, {}),
            (takes_all, {}),
        ],
    )
    def test_what_can_be_provided_is_no_fault(
        self, method: Callable[..., object], dependencies: dict[str, object]
    ) -> None:
        assert faults(method, dependencies) == []

    def test_a_fault_says_all_that_is_needed(self) -> None:
        (fault,) = Injector({"jobs": Queue(), "url": "x"}).faults(of(by_type), OFFERS)
        assert (fault.change_id, fault.parameter, fault.file) == ("c-1", "out", "c.py")
        assert fault.line == by_type.__code__.co_firstlineno
        for part in (
            f"c.py:{fault.line}: Change 'c-1', execute(out: Sender): nobody can provide it",
            "ctx or context: aflamingock.abc.ChangeContext (from the run)",
            f"connection or db or session: {__name__}.SQLConnection (from the target system)",
            f"jobs: {__name__}.Queue (from dependencies); url: str (from dependencies)",
            "dependencies={'out': ...}",
        ):
            assert part in str(fault)

    def test_all_three_coroutines_are_looked_at(self) -> None:
        found = faults(by_type, {}, rollback=by_generic, verify=by_word)
        assert [fault.split("(")[0].split()[-1] for fault in found] == [
            "execute",
            "rollback",
            "verify",
            "verify",
        ]

    def test_without_an_annotation_the_fault_shows_the_name(self) -> None:
        (fault,) = faults(by_name, {})
        assert "execute(retries): nobody" in fault

    def test_a_name_alone_is_not_enough_for_another_type(self) -> None:
        (fault,) = faults(by_protocol, {"jobs": Mailer()})
        assert "execute(jobs: CanPut)" in fault

    def test_a_type_alone_is_not_enough_for_plain_types(self) -> None:
        assert len(faults(by_word, {"dsn": "x", "batch": "many"})) == 2

    def test_two_of_a_type_are_a_fault_that_names_them(self) -> None:
        (fault,) = faults(by_generic, {"orders": Queue(), "bills": Queue()})
        assert "more than one object fits: orders: " in fault
        assert "bills: " in fault
        assert "Named(" in fault

    def test_two_of_a_type_are_told_apart_by_the_name(self) -> None:
        assert faults(by_generic, {"orders": Queue(), "jobs": Queue()}) == []

    def test_a_given_name_that_is_unknown_is_a_fault(self) -> None:
        (fault,) = faults(by_given_name, {"jobs": Queue()})
        assert "dependencies={'orders': ...}" in fault

    def test_an_annotation_that_cannot_be_evaluated_leaves_the_name(self) -> None:
        (fault,) = faults(unseen, {"mailer": Mailer()})
        assert "execute(jobs: Unseen): its annotation cannot be evaluated (name 'Unseen'" in fault

    def test_a_named_type_means_what_it_stands_for(self) -> None:
        extensions = pytest.importorskip("typing_extensions")

        async def aliased(self, jobs): ...

        alias = extensions.TypeAliasType("Jobs", Annotated[Queue[int], Named("orders")])
        aliased.__annotations__["jobs"] = alias
        assert faults(aliased, {"orders": 1}) == []
        assert len(faults(aliased, {"jobs": Queue()})) == 1

    def test_a_protocol_with_attributes_is_asked_of_dependencies_only(self) -> None:
        queue = Queue[int]()
        vars(queue)["topic"] = "orders"
        assert len(faults(by_shape, {})) == 1
        assert faults(by_shape, {"orders": queue}) == []

    def test_the_audit_store_is_never_given(self) -> None:
        found = faults(store, {})
        assert len(found) == 2
        assert all("the audit store is never given to changes" in fault for fault in found)

    def test_an_inherited_method_is_found_in_its_own_file(self) -> None:
        change = of(by_type)
        change.cls.__module__ = "another"
        (fault,) = Injector({}).faults(change, OFFERS)
        assert fault.file == __file__

    @pytest.mark.parametrize("method", [lambda: None, lambda *, of: None, 5, staticmethod(by_type)])
    def test_what_is_no_method_is_left_to_the_other_rules(self, method: Any) -> None:
        assert Injector({}).faults(of(asks_nothing, rollback=method), OFFERS) == []

    def test_a_signature_that_cannot_be_read_is_left_to_the_other_rules(self) -> None:
        async def hidden(self, jobs): ...

        vars(hidden)["__signature__"] = 5
        assert faults(hidden, {}) == []

    def test_a_decorated_method_is_read_through_its_decorator(self) -> None:
        @functools.wraps(by_generic)
        async def decorated(*args: Any, **kwargs: Any) -> None: ...

        (fault,) = Injector({}).faults(of(decorated), OFFERS)
        assert fault.parameter == "jobs"
        assert fault.line == by_generic.__code__.co_firstlineno


class TestDependencies:
    def test_an_audit_store_is_refused(self) -> None:
        with pytest.raises(ConfigurationError, match=r"'log' \(.*Store\) is an audit store"):
            Injector({"log": object.__new__(concrete(Store))})

    def test_what_is_hidden_is_refused(self) -> None:
        secret = Mailer()
        Injector({"mailer": Mailer()}, hidden=[secret])
        with pytest.raises(ConfigurationError, match="'mailer'"):
            Injector({"mailer": secret}, hidden=[secret])


class TestArguments:
    def test_nothing_is_given_to_who_asks_nothing(self) -> None:
        assert arguments(asks_nothing, {"a": 1}) == {}

    def test_names_find_their_objects(self) -> None:
        found = arguments(by_name, {"retries": 3, "connection": Mailer(), "ctx": 1})
        assert found["connection"] is OBJECTS["connection"]
        assert found["ctx"] is found["context"] is CONTEXT
        assert found["retries"] == 3

    def test_types_find_their_objects(self) -> None:
        mailer = Mailer()
        found = arguments(by_type, {"mailer": mailer, "other": SQLConnection()})
        assert found["it"] is OBJECTS["connection"]
        assert found["run"] is CONTEXT
        assert isinstance(found["out"], Mailer)

    def test_the_target_system_comes_before_the_dependencies(self) -> None:
        found = arguments(by_union, {"orders": Queue()})
        assert found["it"] is OBJECTS["connection"]

    def test_a_dependency_of_the_parameters_name_comes_first(self) -> None:
        found = arguments(by_union, {"it": Queue()})
        assert isinstance(found["it"], Queue)

    def test_a_given_name_decides(self) -> None:
        orders, bills = Queue[int](), Queue[int]()
        vars(orders)["name"], vars(bills)["name"] = "orders", "bills"
        found: Any = arguments(by_given_name, {"orders": orders, "jobs": bills})
        assert found["jobs"].name == "orders"

    def test_what_is_optional_is_none_or_its_default(self) -> None:
        assert arguments(optional, {}) == {"out": None}
        assert set(arguments(optional, {"a": Mailer(), "b": Queue(), "size": 1})) == {
            "out",
            "jobs",
            "size",
        }

    def test_dependencies_are_guarded_unless_the_annotation_says_no(self) -> None:
        dependencies = {"mailer": Mailer(), "orders": Queue()}
        found: Any = arguments(by_type, dependencies, check=ended)
        with pytest.raises(LockLostError):
            found["out"].send()

        found = arguments(unguarded, dependencies, check=ended)
        assert (found["out"].send(), found["jobs"].put()) == ("sent", "put")

    def test_objects_of_the_target_are_guarded_where_the_caller_says_so(self) -> None:
        found: Any = arguments(by_any, {"jobs": 1}, check=ended)
        assert found["db"].execute() == "executed"
        found = arguments(by_any, {"jobs": 1}, check=ended, guard_objects=True)
        with pytest.raises(LockLostError):
            found["db"].execute()

    def test_data_is_given_as_it_is(self) -> None:
        async def data(self, path: Path, colour: Colour) -> None: ...

        given = {"root": Path("x"), "red": Colour.RED}
        assert arguments(data, given, check=ended) == {"path": Path("x"), "colour": Colour.RED}

    def test_an_offer_without_an_object_is_not_there(self) -> None:
        more = (*OFFERS, Offer(names=("client",), type=Mailer))
        with pytest.raises(InjectionError, match=r"Change 'c-1', by_type\(out: Sender\): nobody"):
            arguments(by_type, {}, offers=more)

    def test_a_signature_is_read_once(self) -> None:
        injector = Injector({"mailer": Mailer()})
        change = of(by_type)
        assert injector.faults(change, OFFERS) == []
        method = change.cls().execute
        del by_type.__annotations__["run"]
        try:
            found = injector.arguments(
                method,
                context=CONTEXT,
                offers=OFFERS,
                objects=OBJECTS,
                check=ended,
                guard_objects=False,
            )
        finally:
            by_type.__annotations__["run"] = "ChangeContext"

        assert found["run"] is CONTEXT
