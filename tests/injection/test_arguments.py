"""Who gets what: the arguments of a change."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from aflamingock._injection.injection import Injector
from aflamingock.abc import Offer
from aflamingock.exceptions import InjectionError, LockLostError
from tests.injection.asking import (
    OBJECTS,
    OFFERS,
    Colour,
    Mailer,
    Queue,
    SQLConnection,
    arguments,
    asks_nothing,
    by_any,
    by_given_name,
    by_name,
    by_type,
    by_union,
    of,
    optional,
    unguarded,
)
from tests.injection.kit import CONTEXT


def ended() -> None:
    raise LockLostError("The lease has ended.")


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
