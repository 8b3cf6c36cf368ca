from __future__ import annotations

import importlib
import textwrap
from collections.abc import Callable
from pathlib import Path

import pytest

from aflamingock._discovery.checksum import ModuleSource, checksum_of

SAMPLE = r'''
from __future__ import annotations
import asyncio
import logging as log
from typing import TYPE_CHECKING
try:
    import orjson as json
except ImportError:
    import json
finally:
    done = True
if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
else:
    AsyncIterator = None
from aflamingock import change

BATCH: int = 0x10_000
BATCH += 1
NAMES = ("a", 'b' "c", b"\xff", 1e999, 3j, ..., None, True, -1)
CONFIG = {"x": 1, **{}}
CONFIG["y"] = 2
EMOJI = "\U0001fae8 \ud800 é"

with open(__file__) as text:
    TEXT = text.read()
    import sys as system

def helper(x, /, y=BATCH, *args, z: int = 3, **kw) -> str:
    """Doc."""
    w = 5
    total = 0
    def nested(q):
        nonlocal total
        total += q + w
        return lambda a, *b, c=NAMES: (a, b, c)
    if (n := len(args)) > 3:
        raise ValueError(f"{x!r:>{n}} {y=} {{}} {z:%Y-%m-%d}" f"{n}" "tail" f"" f"{x:{y}.{n}}")
    shown = f"{x}{f'{y}'}{{literal}}\n" + f'{x:{"a"}>10}'
    return shown + f"{x = !s:>5}" + f"{x:}" + f"p\x41 {x:\x41}"

def logged(function):
    return function

class Base:
    limit = 5

@change(id="x", author="y", order="1")
class Rich(Base):
    """Doc."""
    table = "users"  # comment
    other = 1

    @logged
    async def execute(self, db: AsyncIterator[int], *, n: int | None = None) -> None:
        """Doc."""
        async with db as d, d.x() as (e, *f):
            rows = [r async for r in d if r > 1 and r for k in r]
            print({k: v for k, v in rows}, {x for x in rows}, (x for x in rows), rows[1:2, ::3])
        match rows:
            case [1, *rest, -2]: pass
            case {"k": value, **others} | {"j": value, **others}: pass
            case Point(x=0, y=y) if y: pass
            case None | True | "s": pass
            case _: pass
        try:
            await helper(*rows, **CONFIG, z=EMOJI)
        except* ValueError as exc:
            log.info("x %s", exc)
        for i in rows:
            continue
        else:
            del i
        while not self.table: break
        global unused
        unused = 2
        assert rows, TEXT + system.path
        a, *b = c = yield_(1)
        a @= b; a: int
        x = (await asyncio.sleep(1)) if a < b <= c is not None else ~a ** -b
        print(f"""{
            self.table!r}""", "a" f"{a}" 'b', rb"\d", u"uni")
        class Local(Base, metaclass=type): y: int = 1

    def rollback(self):
        try:
            json.dumps(1)
        except (KeyError, ValueError): raise RuntimeError from None
        finally: return self.table
'''

PLAIN = """
from shop import first, second
import logging

LIMIT = 5
OTHER = 6

def double(n):
    return twice(n) + LIMIT

def twice(n):
    return n * 2

def unrelated():
    return OTHER

@change(id="a", author="b")
class Add:
    table = "users"
    other = "orders"

    async def execute(self, db):
        await db.insert(self.table, double(1))

    async def rollback(self, db):
        await db.delete(self.name())

    def name(self):
        return first(self.table)

    def spare(self):
        return second
"""


def checksum(text: str, qualname: str = "Add") -> str | None:
    declared = type(qualname.rpartition(".")[2], (), {"__qualname__": qualname})
    return ModuleSource(textwrap.dedent(text).encode(errors="surrogatepass")).checksum_of(declared)


def test_a_checksum_is_the_same_on_every_python():
    assert checksum(SAMPLE, "Rich") == (
        "1:93a56fe56f32b2c606e1e3c4120e9f27932b239dd68a335641acc2e365173a0e"
    )


def test_a_checksum_names_its_algorithm():
    version, _, digest = (checksum(PLAIN) or "").partition(":")
    assert version == "1"
    assert len(digest) == 64


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param('author="b"', 'author="c", tags=("x",)', id="declaration"),
        pytest.param("class Add:", 'class Add:\n    """A docstring."""', id="class docstring"),
        pytest.param("execute(self, db):", 'execute(self, db):\n        "Doc."', id="docstring"),
        pytest.param("self.table, double(1)", "\n  self.table, # why\n  double((1))", id="layout"),
        pytest.param('"users"', "'users'", id="quotes"),
        pytest.param("OTHER = 6", "OTHER = 7", id="unused constant"),
        pytest.param("return OTHER", "return None", id="unused function"),
        pytest.param('other = "orders"', 'other = "x"', id="unused member"),
        pytest.param("return second", "return None", id="unused method"),
        pytest.param("first, second", "first, third, second", id="unused import"),
        pytest.param("import logging\n", "", id="unused module"),
    ],
)
def test_what_is_no_code_of_the_change_does_not_count(old: str, new: str):
    assert old in PLAIN
    assert checksum(PLAIN.replace(old, new)) == checksum(PLAIN)


@pytest.mark.parametrize(
    ("old", "new"),
    [
        pytest.param("double(1)", "double(2)", id="constant"),
        pytest.param("double(1)", "double(1.0)", id="type of a constant"),
        pytest.param("double(1)", "double(True)", id="true is not one"),
        pytest.param("async def execute", "def execute", id="plain function"),
        pytest.param("execute(self, db)", "execute(self, db: Database)", id="annotation"),
        pytest.param('"users"', '"people"', id="member"),
        pytest.param("return first(self.table)", "return self.table", id="method"),
        pytest.param("from shop import", "from market import", id="import"),
        pytest.param("LIMIT = 5", "LIMIT = 6", id="constant of a function"),
        pytest.param("n * 2", "n * 3", id="function of a function"),
        pytest.param("LIMIT = 5", "LIMIT = 5\nLIMIT += 1", id="later assignment"),
        pytest.param("LIMIT = 5", "if first:\n    LIMIT = 5", id="condition"),
        pytest.param("    async def rollback", "    async def roll_back", id="no rollback"),
    ],
)
def test_what_the_change_reaches_counts(old: str, new: str):
    assert old in PLAIN
    assert checksum(PLAIN.replace(old, new)) != checksum(PLAIN)


def test_the_order_of_definitions_does_not_count():
    lines = PLAIN.replace("LIMIT = 5\n", "") + "\nLIMIT = 5\n"
    assert checksum(lines) == checksum(PLAIN)


@pytest.mark.parametrize(
    "code",
    [
        "self.run(db)",
        "copy(self)",
        "super().execute()",
        "Add.spare(self)",
    ],
)
def test_where_members_cannot_be_told_the_whole_class_counts(code: str):
    text = f"class Add(Base):\n    async def execute(self): {code}\n    def spare(self): return 1\n"
    assert checksum(text) != checksum(text.replace("return 1", "return 2"))
    if code != "Add.spare(self)":
        assert checksum(text) != checksum(text.replace("(Base)", "(Other)"))


def test_a_class_that_names_itself_is_still_without_its_decorators():
    text = "@first\nclass Add:\n    async def execute(self): Add.spare(self)\n"
    assert checksum(text) == checksum(text.replace("@first", "@second"))


def test_what_several_changes_share_is_read_once():
    text = "LIMIT = 5\nclass Add:\n    def execute(self): LIMIT\n"
    source = ModuleSource((text + text[10:].replace("Add", "Other")).encode())
    found = {
        source.checksum_of(type(name, (), {"__qualname__": name})) for name in ("Add", "Other")
    }
    assert found == {checksum(text)}


def test_what_an_inherited_execute_may_use_counts():
    text = "from x import Base\nclass Add(Base):\n    table = 'a'\n"
    assert checksum(text) != checksum(text.replace("'a'", "'b'"))
    assert checksum(text) != checksum(text.replace("from x", "from y"))


def test_an_unknown_name_may_come_from_a_star_import():
    text = "from x import *\nclass Add:\n async def execute(self): helper()\n"
    assert checksum(text) != checksum(text.replace("from x", "from y"))


def test_a_class_in_a_function_is_found_with_the_names_around_it():
    text = "def test():\n  limit = 5\n  class Add:\n    async def execute(self): return limit\n"
    name = "test.<locals>.Add"
    assert checksum(text, name)
    assert checksum(text, name) != checksum(text.replace("= 5", "= 6"), name)
    assert checksum(text, "test.<locals>.Other") is None


def test_a_class_in_a_class_does_not_see_its_names():
    text = "limit = 1\nclass Outer:\n  limit = 5\n  class Add:\n    def execute(self): limit\n"
    assert checksum(text, "Outer.Add") == checksum(text.replace("= 5", "= 6"), "Outer.Add")
    assert checksum(text, "Outer.Add") != checksum(text.replace("= 1", "= 2"), "Outer.Add")


@pytest.fixture
def run(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str], dict[str, type]]:
    def run(text: str) -> dict[str, type]:
        name = f"sample_{tmp_path.name}"
        (tmp_path / f"{name}.py").write_text(text)
        monkeypatch.syspath_prepend(tmp_path)
        return vars(importlib.import_module(name))

    return run


def test_of_two_classes_of_one_name_the_right_one_is_read(run):
    found = run(
        "if True:\n class Add:\n  def execute(self): return 1\nFirst = Add\n"
        "class Add:\n def execute(self): return 2\n"
    )
    assert checksum_of(found["First"]) != checksum_of(found["Add"])
    source = ModuleSource.of(found["Add"])
    assert source is not None
    assert source.line_of(found["First"]) == 2
    assert source.line_of(found["Add"]) == 5
    assert source.lines_of("Add") == [5]
    assert source.lines_of("Other") == ()


def test_without_source_there_is_no_checksum(run):
    found = run("class Add:\n def execute(self): return 1\n")
    made = type("Add", (), {"__module__": "nowhere"})
    assert checksum_of(found["Add"])
    assert checksum_of(made) is None
    Path(found["__file__"]).write_text("class Add(")
    assert checksum_of(found["Add"]) is None
    Path(found["__file__"]).unlink()
    assert checksum_of(found["Add"]) is None
    assert ModuleSource(b"").line_of(made) is None
