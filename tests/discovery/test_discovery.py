from __future__ import annotations

import os
import pickle
import sys
from pathlib import Path
from typing import Any

import pytest

from aflamingock._discovery.checksum import checksum_of
from aflamingock._discovery.location import find_files, shown_path
from tests import change_files
from tests.change_files import (
    ByHand,
    ids,
    load,
    make_change,
    name_of,
    text_of,
    write,
)

package = change_files.package


def test_a_package_is_read_under_its_real_names(package: Path):
    write(
        package,
        {
            "_0002__second.py": text_of("b"),
            "_0001__first.py": "from .helper import VALUE\n" + text_of("a"),
            "helper.py": "VALUE = 1\n",
            "deeper/_0003__third.py": text_of("c"),
        },
    )
    first, second, third = load(name_of(package)).changes()
    assert [first.id, second.id, third.id] == ["a", "b", "c"]
    assert first.order == "0001"
    assert first.cls.__module__ == f"{name_of(package)}._0001__first"
    assert first.invoked_class == f"{name_of(package)}._0001__first.Ca"
    assert first.source == f"{package.parent.name}/changes/_0001__first.py"
    assert first.file == os.path.join(package.parent.name, "changes", "_0001__first.py")
    assert first.line == 6
    assert (first.checksum or "").startswith("1:")
    assert third.invoked_class == f"{name_of(package)}.deeper._0003__third.Cc"


def test_a_single_module_is_a_location(package: Path):
    write(package, {"_0001__first.py": text_of("a"), "all.py": text_of("b", "order='1'")})
    assert ids(load(f"{name_of(package)}._0001__first")) == ["a"]
    assert ids(load(f"{name_of(package)}.all")) == ["b"]


def test_a_folder_that_two_ways_lead_to_is_read_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    name = f"shop_{tmp_path.name}"
    write(tmp_path / name, {"_0001__first.py": text_of("a")})
    (tmp_path / "way").symlink_to(tmp_path)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.syspath_prepend(tmp_path / "way")  # as uvicorn, PYTHONPATH and a script do it
    assert ids(load(name)) == ["a"]


def test_a_package_file_may_hold_changes(package: Path):
    write(package, {"__init__.py": text_of("a", "order='1'")})
    (found,) = load(name_of(package)).changes()
    assert found.invoked_class == f"{name_of(package)}.Ca"
    assert found.source == f"{package.parent.name}/changes/__init__.py"


def test_a_package_without_its_file_is_read(package: Path):
    (package / "__init__.py").unlink()
    write(package, {"_0001__first.py": text_of("a")})
    assert ids(load(name_of(package))) == ["a"]


def test_a_file_that_import_cannot_name_is_read_from_a_package(package: Path):
    write(package, {"_1.5__a.py": "from . import helper\n" + text_of("a"), "helper.py": ""})
    (found,) = load(name_of(package)).changes()
    assert (found.order, found.source) == ("1.5", f"{package.parent.name}/changes/_1.5__a.py")


@pytest.mark.parametrize("as_text", [True, False])
def test_a_folder_is_read(tmp_path: Path, as_text: bool):
    folder = tmp_path / "steps"
    write(folder, {"_0001__first.py": text_of("a"), "deeper/_0002_second.py": text_of("b")})
    first, second = load(str(folder) if as_text else folder).changes()
    assert [first.id, second.id] == ["a", "b"]
    assert first.source == "steps/_0001__first.py"
    assert first.invoked_class == "steps._0001__first.Ca"
    assert second.source == "steps/deeper/_0002_second.py"
    assert first.file == str(folder / "_0001__first.py")
    assert first.checksum
    assert pickle.loads(pickle.dumps(first.cls)) is first.cls


def test_a_text_may_name_a_folder_or_a_package(package: Path, tmp_path: Path):
    write(tmp_path / "my-steps", {"_0001__first.py": text_of("a")})
    write(package.parent, {"_0001__first.py": text_of("b")})
    write(package, {"_0002__second.py": text_of("c")})
    assert ids(load("my-steps")) == ["a"]
    (by_name, _) = load(package.parent.name).changes()
    assert by_name.cls.__module__ == f"{package.parent.name}._0001__first"
    (by_path, _) = load(f"./{package.parent.name}").changes()
    assert by_path.cls.__module__.startswith("aflamingock_")
    assert by_path.invoked_class == by_name.invoked_class
    assert by_path.source == by_name.source
    assert by_path.checksum == by_name.checksum


def test_a_text_without_a_separator_may_name_a_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    write(tmp_path / "my_steps", {"_0001__first.py": text_of("a")})
    monkeypatch.chdir(tmp_path)
    (found,) = load("my_steps").changes()
    assert found.cls.__module__.startswith("aflamingock_")
    assert found.file == os.path.join("my_steps", "_0001__first.py")


def test_a_folder_may_be_loaded_twice(tmp_path: Path):
    write(tmp_path, {"_0001__first.py": text_of("a")})
    (first,), (again,) = load(tmp_path).changes(), load(tmp_path).changes()
    assert first.cls is again.cls
    write(tmp_path, {"_0001__first.py": text_of("b")})
    assert ids(load(tmp_path)) == ["b"]
    assert first.id == "a"


def test_the_checksum_is_of_the_text_that_was_run(tmp_path: Path):
    write(tmp_path, {"_0001__first.py": text_of("a")})
    (found,) = load(tmp_path).changes()
    write(tmp_path, {"_0001__first.py": text_of("a").replace("execute", "verify")})
    assert checksum_of(found.cls) == found.checksum


def test_hidden_files_tests_and_programs_are_left_alone(tmp_path: Path):
    bad = "raise RuntimeError"
    names = [".hidden.py", ".git/a.py", "__pycache__/a.py", "test_a.py", "conftest.py"]
    write(tmp_path, dict.fromkeys([*names, "__main__.py", "sub/test_b.py", "a.txt"], bad))
    assert ids(load(tmp_path)) == []
    assert find_files(tmp_path) == []


def test_links_are_followed_once(tmp_path: Path):
    write(tmp_path / "real", {"_0001__first.py": text_of("a")})
    folder = tmp_path / "steps"
    folder.mkdir()
    (folder / "linked").symlink_to(tmp_path / "real", target_is_directory=True)
    (tmp_path / "real" / "up").symlink_to(folder, target_is_directory=True)
    assert ids(load(folder)) == ["a"]


def test_orders_are_compared_as_text(tmp_path: Path):
    write(tmp_path, {f"_{order}__x.py": text_of(f"c{order}") for order in ("10", "9", "2")})
    assert ids(load(tmp_path)) == ["c10", "c2", "c9"]


def test_a_file_without_an_order_may_hold_several_changes(tmp_path: Path):
    write(tmp_path, {"all.py": text_of("b", "order='2'") + text_of("a", "order='1'")})
    assert ids(load(tmp_path)) == ["a", "b"]


def test_an_imported_change_is_not_found_again(package: Path):
    write(
        package,
        {
            "__init__.py": "from ._0001__first import Ca",
            "_0001__first.py": text_of("a") + "\nAgain = Ca",
        },
    )
    assert ids(load(name_of(package))) == ["a"]


def test_profiles_leave_changes_out(tmp_path: Path):
    write(
        tmp_path,
        {
            "_0001__a.py": text_of("a"),
            "_0002__b.py": text_of("b", "profiles=('prod', 'stage')"),
            "_0003__c.py": text_of("c", "profiles=['test']"),
        },
    )
    found = load(tmp_path, profiles=["test", "other"])
    assert ids(found) == ["a", "c"]
    assert found.inactive == {"b"}
    assert ids(load(tmp_path)) == ["a"]


def test_one_id_may_have_a_change_for_each_profile(tmp_path: Path):
    write(
        tmp_path,
        {
            "_0001__a.py": text_of("a", "profiles=['prod']"),
            "_0002__a.py": text_of("a", "profiles=['test']"),
        },
    )
    found = load(tmp_path, profiles=["test"])
    assert [each.order for each in found.changes()] == ["0002"]
    assert found.inactive == frozenset()


def test_a_class_is_a_location():
    (found,) = load(ByHand).changes()
    assert found.cls is ByHand
    assert (found.id, found.order) == ("by-hand", "0001")
    assert found.module == change_files.__name__
    assert found.file == shown_path(change_files.__file__)
    assert found.source == "tests/change_files.py"
    assert found.line
    assert found.checksum


def test_a_listed_class_has_the_order_of_its_file(package: Path):
    write(package, {"_0001__first.py": text_of("a"), "__init__.py": text_of("b", "order='0'")})
    __import__(f"{name_of(package)}._0001__first")
    module: Any = sys.modules[f"{name_of(package)}._0001__first"]
    package_module: Any = sys.modules[name_of(package)]
    first, second = load(module.Ca, package_module.Cb).changes()
    assert (second.order, second.source) == (
        "0001",
        f"{package.parent.name}/changes/_0001__first.py",
    )
    assert first.source == f"{package.parent.name}/changes/__init__.py"


def test_a_class_made_without_a_file_is_a_location():
    made = make_change("a")
    made.__module__ = "nowhere"
    (found,) = load(made).changes()
    assert (found.file, found.line, found.source, found.checksum) == (None, None, None, None)
    assert found.invoked_class.startswith("nowhere.")
