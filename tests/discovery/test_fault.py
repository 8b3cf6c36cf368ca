from __future__ import annotations

import functools
import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping
from types import MappingProxyType
from typing import Any

import pytest

from aflamingock._change import Declaration
from aflamingock._discovery.fault import method_faults, value_faults


class Plain:
    async def execute(self) -> None: ...


class Blocking:
    def execute(self) -> None: ...


def faults_of(
    declared: type = Plain, *, in_file: str | None = None, given: Mapping[str, Any] | None = None
) -> list[str]:
    values: dict[str, Any] = {"id": "add", "author": "team", "order": None if in_file else "1"}
    values |= given or {}
    found = value_faults(
        declared, Declaration(**values), order_in_file=in_file, file="a.py", line=3
    )
    return [str(fault) for fault in found]


def wrong_methods(declared: type) -> list[str]:
    return [str(fault) for fault in method_faults(declared, file="a.py", line=3)]


def class_with(**members: Any) -> type:
    return type("Add", (), {"execute": Plain.execute} | members)


@pytest.mark.parametrize("id", ["a", "A-1._:@/-", "0" * 190])
def test_an_id_is_letters_digits_and_a_few_signs(id: str):
    assert faults_of(given={"id": id}) == []


@pytest.mark.parametrize("id", ["", "-a", "a b", "a\x00", "a\n", "ä", "a" * 191, None, 1])
def test_any_other_id_is_a_fault_that_shows_it(id: object):
    (fault,) = faults_of(given={"id": id})
    assert fault.startswith("a.py:3: Plain: id=")
    assert repr(id)[:97] in fault
    assert fault.isprintable()


@pytest.mark.parametrize(
    ("name", "value", "said"),
    [
        ("author", "", "names nobody"),
        ("author", "  ", "names nobody"),
        ("author", None, "names nobody"),
        ("target_system", "", "id of a target system"),
        ("target_system", 3, "id of a target system"),
        ("order", None, "order= is missing"),
        ("order", 1, "such as '0001'"),
        ("order", "", "not allowed"),
        ("order", "a\nb", "not allowed"),
        ("transactional", None, "True or False"),
        ("run_always", 1, "True or False"),
        ("recovery", "ALWAYS_RETRY", "Recovery.ALWAYS_RETRY"),
        ("timeout", 0, "seconds above 0"),
        ("timeout", -1, "seconds above 0"),
        ("timeout", math.inf, "seconds above 0"),
        ("timeout", math.nan, "seconds above 0"),
        ("timeout", True, "seconds above 0"),
        ("timeout", "5", "seconds above 0"),
        ("timeout", 10**400, "seconds above 0"),
        ("tags", "slow", "tags=('slow',)"),
        ("profiles", "prod", "profiles=('prod',)"),
        ("depends_on", "other", "depends_on=('other',)"),
        ("tags", None, "tuple of texts"),
        ("tags", [1], "tuple of texts"),
        ("tags", {"a": 1}, "tuple of texts"),
        ("tags", ("",), "tuple of texts"),
        ("metadata", [], "dict of JSON"),
        ("metadata", {"a": object}, "metadata['a']"),
        ("metadata", {"a": math.nan}, "metadata['a']"),
        ("metadata", {"a": {1: 2}}, "metadata['a']"),
        ("metadata", {1: 2}, "metadata[1]"),
    ],
)
def test_a_bad_value_is_a_fault_that_names_it(name: str, value: object, said: str):
    (fault,) = faults_of(given={name: value})
    assert fault.startswith(f"a.py:3: Plain: {name}")
    assert said in fault


@pytest.mark.parametrize(
    "given",
    [
        {"timeout": 0.5},
        {"tags": ["a"], "profiles": {"b"}, "depends_on": frozenset({"c"})},
        {"metadata": {"a": [1, 2.5, None, {"b": "c"}]}},
        {"metadata": MappingProxyType({"a": True})},
        {"order": "2024-01.15_a"},
    ],
)
def test_good_values_are_no_faults(given: dict[str, Any]):
    assert faults_of(given=given) == []


def test_a_circular_metadata_is_a_fault():
    value: list[Any] = []
    value.append(value)
    assert len(faults_of(given={"metadata": {"a": value}})) == 1


def test_an_order_is_refused_where_the_file_gives_one():
    assert faults_of(in_file="0001") == []
    (fault,) = faults_of(in_file="0001", given={"order": "0001"})
    assert "although the file's name gives '0001'. Remove order=." in fault


def test_a_timeout_of_a_plain_function_is_refused():
    (fault,) = faults_of(Blocking, given={"timeout": 3})
    assert "Write async def execute, or remove timeout=." in fault


def test_every_bad_value_is_found():
    bad = {"id": "", "author": "", "order": "", "tags": "", "metadata": 1, "timeout": 0}
    assert len(faults_of(given=bad)) == 6


def test_methods_are_plain_or_async():
    class Both:
        async def execute(self, db: object, *, mailer: object = None) -> None: ...
        def rollback(self, db: object) -> None: ...
        async def verify(self) -> None: ...

    assert wrong_methods(Both) == []
    assert wrong_methods(Blocking) == []
    assert wrong_methods(class_with(rollback=None)) == []


def gives_without_name(self: object, db: object, /) -> None: ...
def takes_anything(self: object, *args: object) -> None: ...
def takes_any_name(self: object, **kwargs: object) -> None: ...
def takes_nothing() -> Any: ...
def takes_no_self(*, db: object) -> None: ...
def yields(self: object):
    yield


async def yields_later(self: object):
    yield


@functools.wraps(Plain.execute)
def hides_a_coroutine(*args: Any) -> Any:
    return Plain.execute(*args)


@pytest.mark.parametrize("name", ["execute", "rollback", "verify"])
@pytest.mark.parametrize(
    ("method", "said"),
    [
        (3, "it is of the type int, "),
        (staticmethod(takes_nothing), "it is of the type staticmethod, "),
        (classmethod(takes_anything), "it is of the type classmethod, "),
        (functools.partialmethod(Plain.execute), "it is of the type partialmethod, "),
        (property(takes_anything), "it is of the type property, "),
        (Plain, "it is of the type type, "),
        (gives_without_name, "'db'"),
        (takes_anything, "'*args'"),
        (takes_any_name, "'**kwargs'"),
        (takes_nothing, "its parameters cannot be read"),
        (takes_no_self, "it does not take self"),
        (yields, "it has a yield"),
        (yields_later, "it has a yield"),
        (hides_a_coroutine, "a decorator makes a plain function"),
    ],
)
def test_a_method_of_the_wrong_kind_is_a_fault(name: str, method: object, said: str):
    (fault,) = wrong_methods(class_with(**{name: method}))
    assert f": Add.{name}: " in fault
    assert said in fault


def test_a_fault_of_a_method_names_its_line():
    class Wrong:
        async def execute(self, *args: object) -> None: ...

    (fault,) = wrong_methods(Wrong)
    assert fault.startswith(f"a.py:{Wrong.execute.__code__.co_firstlineno}: ")


def test_a_change_without_execute_is_a_fault():
    (fault,) = wrong_methods(type("Add", (), {}))
    assert fault == "a.py:3: Add.execute: it is missing. Write async def execute(self, ...)."


def test_an_inherited_execute_counts():
    assert wrong_methods(type("Add", (Plain,), {})) == []


def make_abstract() -> type:
    class Abstract(ABC):
        @abstractmethod
        async def execute(self) -> None: ...

    return Abstract


def make_demanding() -> type:
    class Demanding(Plain):
        def __init__(self, db: object) -> None: ...

    return Demanding


@pytest.mark.parametrize(
    ("make", "said"),
    [(make_abstract, "is abstract"), (make_demanding, "cannot be made without arguments")],
)
def test_a_class_that_cannot_be_made_is_a_fault(make: Callable[[], type], said: str):
    (fault,) = wrong_methods(make())
    assert said in fault


def test_a_class_that_takes_any_arguments_can_be_made():
    class Open(Plain):
        def __init__(self, *args: object, size: int = 1, **kwargs: object) -> None: ...

    assert wrong_methods(Open) == []


def test_a_class_whose_making_cannot_be_read_is_no_fault():
    class Strange(Plain):
        __signature__ = 3

        def __init__(self) -> None: ...

    assert wrong_methods(Strange) == []
