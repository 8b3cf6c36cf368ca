from __future__ import annotations

import ast
import textwrap

import pytest

from aflamingock._discovery.checksum import ModuleSource
from aflamingock._discovery.syntax import read_piece


def checksum(text: str) -> str | None:
    return ModuleSource(text.encode()).checksum_of(type("Add", (), {"__qualname__": "Add"}))


@pytest.mark.parametrize(
    "code",
    [
        "LIMIT = 1; return LIMIT",
        "return [LIMIT for LIMIT in db]",
        "return lambda LIMIT: LIMIT",
        "def LIMIT(): return LIMIT\n",
        "import LIMIT; return LIMIT",
        "from x import y as LIMIT; return LIMIT",
    ],
)
def test_a_local_name_is_not_that_of_the_module(code: str):
    text = f"LIMIT = 5\nclass Add:\n    async def execute(self, db): {code}\n"
    if code.startswith("def"):
        text = f"LIMIT = 5\nclass Add:\n    async def execute(self, db):\n        {code}\n"

    assert checksum(text) == checksum(text.replace("= 5", "= 6"))


@pytest.mark.parametrize(
    "body",
    [
        "try: pass\nexcept E as LIMIT: print(LIMIT)",
        "match db:\n case [*LIMIT]: print(LIMIT)",
        "match db:\n case {**LIMIT}: print(LIMIT)",
        "match db:\n case x as LIMIT: print(LIMIT)",
        "with db as LIMIT: print(LIMIT)",
        "LIMIT = 1\ndef inner():\n nonlocal LIMIT\n LIMIT += 1",
    ],
)
def test_every_way_to_bind_a_local_name_is_known(body: str):
    method = textwrap.indent(f"async def execute(self, db):\n{textwrap.indent(body, ' ')}", " ")
    text = f"LIMIT = 5\nclass Add:\n{method}\n"
    assert checksum(text) == checksum(text.replace("= 5", "= 6"))


@pytest.mark.parametrize(
    "method",
    [
        "async def execute(self):\n  global LIMIT\n  LIMIT += 1",
        "async def execute(self, n=LIMIT): pass",
        "async def execute(self, LIMIT=LIMIT): pass",
        "@limited(LIMIT)\n async def execute(self): pass",
        "async def execute(self):\n  class Inner:\n   LIMIT = 1\n   def get(self): return LIMIT",
        "async def execute(self): return f'{LIMIT}'",
        "async def execute(self): return (self.table, helper())",
    ],
)
def test_every_use_of_a_name_of_the_module_is_known(method: str):
    text = (
        "from x import *\nLIMIT = 5\nfor i in ():\n def helper(): return LIMIT\n"
        f"class Add:\n table = LIMIT\n {method}\n"
    )
    assert checksum(text) != checksum(text.replace("= 5", "= 6"))


def test_a_call_with_an_id_and_an_author_is_only_left_out_as_a_decorator():
    text = "class Add:\n async def execute(self): save(User(id=1, author='a'))\n"
    assert checksum(text) != checksum(text.replace("'a'", "'b'"))


def test_a_deep_expression_has_a_checksum():
    assert checksum(f"class Add:\n async def execute(self): return {' + '.join(['1'] * 2000)}\n")


def test_a_huge_number_has_a_checksum():
    assert checksum(f"class Add:\n async def execute(self): return 0x{'f' * 9000}\n")


def test_f_strings_are_cut_the_same_way_everywhere():
    pieces = [
        ast.JoinedStr(values=[ast.Constant(value="a"), ast.Constant(value="b")]),
        ast.JoinedStr(values=[ast.Constant(value="ab"), ast.Constant(value="")]),
    ]
    assert read_piece((pieces[0],)) == read_piece((pieces[1],))
