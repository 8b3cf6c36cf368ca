from __future__ import annotations

from pathlib import Path

import pytest

from aflamingock._discovery.discovery import load_pipeline, read_pipeline
from aflamingock._discovery.location import shown_path
from aflamingock._pipeline import Stage
from aflamingock.exceptions import ChangeLoadError
from tests import change_files
from tests.change_files import (
    ByHand,
    fault,
    faults,
    ids,
    load,
    name_of,
    text_of,
    write,
)

package = change_files.package


def test_a_class_that_is_no_change_is_a_fault():
    assert "is no change. Decorate the class with @change(...)." in fault(
        type("Child", (ByHand,), {})
    )


def test_what_is_not_there_is_a_fault(tmp_path: Path, package: Path):
    assert "Is it installed" in fault("no_such_package_at_all.changes")
    assert "Is it installed" in fault(f"{name_of(package)}.nothing")
    assert "Is it installed" in fault(f"{name_of(package)}.nothing.deeper")
    assert "cannot be read" in fault(tmp_path / "missing")
    assert "is a file" in fault(package / "__init__.py")
    assert "has no Python source" in fault("sys")
    assert "cannot be looked for" in fault(".changes")


def test_a_package_above_that_raises_is_a_fault(package: Path):
    write(package.parent, {"__init__.py": "import no_such_thing"})
    assert "No module named 'no_such_thing'" in fault(name_of(package))


def test_a_package_that_raises_is_one_fault_for_all_below(package: Path):
    write(package, {"__init__.py": "1 / 0", "_0001__a.py": text_of("a")})
    assert "ZeroDivisionError: division by zero" in fault(name_of(package))


def test_a_file_that_does_not_parse_is_a_fault_with_its_line(tmp_path: Path, package: Path):
    for folder, location in ((tmp_path / "steps", tmp_path / "steps"), (package, name_of(package))):
        write(folder, {"_0001__a.py": "\nclass A(:\n"})
        (found,) = faults(location)
        assert isinstance(found, ChangeLoadError)
        assert found.file == shown_path(str(folder / "_0001__a.py"))
        assert found.line == 2
        assert "The file does not parse: invalid syntax." in str(found)


@pytest.mark.parametrize(
    ("code", "said"),
    [
        ("raise RuntimeError('no')", "RuntimeError: no"),
        ("raise SystemExit(3)", "SystemExit: 3"),
        ("import no_such_thing", "No module named 'no_such_thing'"),
        ("from . import sibling", "import by full names"),
        ("compile('(', 'other.py', 'exec')", "SyntaxError"),
    ],
)
def test_a_file_that_raises_is_a_fault_with_its_line(tmp_path: Path, code: str, said: str):
    write(tmp_path, {"_0001__a.py": f"\n\n{code}\n"})
    (found,) = faults(tmp_path)
    assert found.line == 3
    assert "Importing the file raised " in str(found)
    assert said in str(found)
    assert found.__cause__ is not None


def test_an_interrupt_is_no_fault(tmp_path: Path):
    write(tmp_path, {"_0001__a.py": "raise KeyboardInterrupt"})
    with pytest.raises(KeyboardInterrupt):
        load(tmp_path)


def test_a_file_that_cannot_be_read_is_a_fault(tmp_path: Path):
    (tmp_path / "_0001__a.py").symlink_to(tmp_path / "nothing")
    assert "FileNotFoundError" in fault(tmp_path)


def test_a_file_that_another_one_hides_is_a_fault(package: Path):
    write(package, {"a.py": text_of("a", "order='1'"), "a/__init__.py": ""})
    assert "instead; rename one of the two" in fault(name_of(package))


def test_a_file_with_an_order_holds_one_change(tmp_path: Path):
    write(tmp_path, {"_0001__a.py": "x = 1"})
    (found,) = faults(tmp_path)
    assert found.file == str(tmp_path / "_0001__a.py")
    assert "gives the order '0001', but it declares no change" in str(found)
    write(tmp_path, {"_0001__a.py": text_of("a") + text_of("b")})
    assert "it declares 2 changes: Ca, Cb" in str(faults(tmp_path)[0])


def test_a_function_is_no_change(tmp_path: Path):
    write(tmp_path, {"_0001__a.py": text_of("a").replace("class Ca:", "async def Ca():")})
    (found,) = faults(tmp_path)
    assert "Ca is a function" in str(found)
    assert found.line == 4


def test_a_class_that_is_defined_again_is_a_fault(tmp_path: Path):
    again = text_of("b", "order='2'").replace("Cb", "Ca")
    write(tmp_path, {"all.py": text_of("a", "order='1'") + again})
    (found,) = faults(tmp_path)
    assert "Ca is defined 2 times" in str(found)
    assert found.line == 5


def test_overlapping_locations_are_a_fault(tmp_path: Path):
    write(tmp_path, {"_0001__a.py": text_of("a", "order='1'")})
    found = [str(each) for each in faults(tmp_path, tmp_path)]
    assert len(found) == 2
    assert "although the file's name gives '0001'" in found[0]
    assert "locations overlap" in found[1]


def test_stages_come_after_each_other(tmp_path: Path):
    write(tmp_path, {"one/_0001__a.py": text_of("a"), "two/_0001__b.py": text_of("b")})
    found = load_pipeline(
        [Stage("one", location=tmp_path / "one"), Stage("two", location=tmp_path / "two")],
        profiles=(),
        targets=(),
    )
    assert [stage.name for stage in found.stages] == ["one", "two"]
    assert found.stages[1].after == ("one",)


def test_everything_that_is_wrong_is_found_at_once(tmp_path: Path):
    write(
        tmp_path,
        {
            "_0001__broken.py": "class",
            "_0002__raises.py": "1 / 0",
            "_0003__empty.py": "",
            "_0004__a.py": text_of("a"),
            "_0005__a.py": text_of("a"),
            "_0006__control.py": text_of("c").replace('"c"', '"c\\x07"'),
            "_0007__target.py": text_of("t", "target_system='dp'"),
            "_0008__rollback.py": text_of("r") + "    async def rollback(self, *args): ...\n",
            "_0008__order.py": text_of("o", "order='8'"),
            "_0009__dependent.py": text_of("d", "depends_on=['nothing', 'r']"),
        },
    )
    stages = [
        Stage("main", location=tmp_path, after=["other"]),
        Stage("other", location="no_such_package", after=["main"]),
    ]
    pipeline, found = read_pipeline(stages, profiles=(), targets=["db"])
    said = "\n".join(str(each) for each in found)
    for part in (
        "_0001__broken.py:1: The file does not parse",
        "_0002__raises.py:1: Importing the file raised ZeroDivisionError",
        "_0003__empty.py: The file's name gives the order '0003'",
        "Location 'no_such_package'",
        "_0006__control.py:5: Cc: id='c\\x07'",
        "Cr.rollback: its parameter '*args'",
        "Co: order='8' is given although",
        "Stages wait for each other",
        "_0005__a.py:5: 2 changes have the id 'a'",
        "have the order '0008'",
        "names the target system 'dp'",
        "depends on 'nothing'",
    ):
        assert part in said

    assert len(found) == 12
    assert {"r", "t"} & set(ids(pipeline)) == {"t"}
