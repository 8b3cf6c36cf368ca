from __future__ import annotations

import sys
from pathlib import Path

import pytest

from aflamingock._discovery.discovery import pipeline_digest
from aflamingock._discovery.location import shown_path
from aflamingock._pipeline import Location, Stage
from tests import change_files
from tests.change_files import (
    ByHand,
    make_change,
    name_of,
    text_of,
    write,
)

package = change_files.package


def digest(*locations: Location, **settings: object) -> str | None:
    return pipeline_digest([Stage("main", location=locations)], settings=settings)


def test_a_digest_imports_nothing_at_or_below_the_location(package: Path):
    write(package, {"__init__.py": "1 / 0", "_0001__a.py": "1 / 0"})
    assert digest(name_of(package))
    assert package.parent.name in sys.modules
    assert not [name for name in sys.modules if name.startswith(name_of(package))]


def test_a_digest_stands_for_names_texts_stages_and_settings(package: Path, tmp_path: Path):
    write(package, {"_0001__a.py": text_of("a"), "deeper/_0002__b.py": text_of("b")})
    location = name_of(package)
    first = digest(location, profiles=["a"], mode="x")
    assert first == digest(location, mode="x", profiles=["a"])
    stages = [Stage("other", location=location)]
    found = {
        first,
        digest(location, mode="x", profiles=[]),
        digest(location),
        digest(location, location),
        pipeline_digest(stages, settings={}),
        pipeline_digest([*stages, Stage("b", location=())], settings={}),
        pipeline_digest([*stages, Stage("b", location=(), after=())], settings={}),
    }
    assert len(found) == 7
    write(package, {"test_a.py": "", "deeper/notes.txt": ""})
    assert digest(location) in found
    write(package, {"deeper/_0002__b.py": text_of("b") + "#"})
    assert digest(location) not in found
    write(package, {"deeper/_0002__b.py": text_of("b"), "deeper/helper.py": ""})
    assert digest(location) not in found
    (package / "deeper/helper.py").rename(package / "deeper/other.py")
    assert digest(location) not in found


def test_a_digest_is_the_same_wherever_the_files_are(tmp_path: Path, package: Path):
    write(package, {"_0001__a.py": text_of("a")})
    write(tmp_path / "x" / package.parent.name, {"__init__.py": "", "changes/__init__.py": ""})
    write(tmp_path / "x" / package.parent.name, {"changes/_0001__a.py": text_of("a")})
    assert digest(package) == digest(tmp_path / "x" / package.parent.name / "changes")


def test_a_digest_of_a_class_stands_for_its_file_and_declaration():
    one, two = make_change("a"), make_change("b")
    assert digest(one) == digest(make_change("a"))
    assert len({digest(one), digest(two), digest(ByHand), digest(one, two)}) == 4


def test_without_files_there_is_no_digest(tmp_path: Path):
    made = make_change("a")
    made.__module__ = "nowhere"
    assert digest(made) is None
    made.__module__ = "math"
    assert digest(made) is None
    assert digest(tmp_path / "missing") is None
    assert digest("no_such_package") is None
    assert digest() is not None


def test_a_digest_of_a_file_that_cannot_be_read_is_none(tmp_path: Path):
    (tmp_path / "_0001__a.py").symlink_to(tmp_path / "nothing")
    assert digest(tmp_path) is None


def test_without_a_working_directory_paths_are_absolute(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    gone = tmp_path / "gone"
    gone.mkdir()
    monkeypatch.chdir(gone)
    gone.rmdir()
    assert shown_path("/a/b.py") == "/a/b.py"
