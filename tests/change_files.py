"""Packages and folders of changes, written for a test."""

from __future__ import annotations

import hashlib
import os
import sys
import textwrap
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from aflamingock._change import change
from aflamingock._discovery.discovery import read_pipeline
from aflamingock._pipeline import Location, Pipeline, Stage
from aflamingock.exceptions import ConfigurationError

CHANGE = """
from aflamingock._change import change

@change(id="{id}", author="team"{more})
class {name}:
    async def execute(self): ...
"""


def text_of(id: str, more: str = "") -> str:
    return CHANGE.format(id=id, name=f"C{id}".title().replace("-", ""), more=more and f", {more}")


@pytest.fixture
def package(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """A package of changes in one of its own, with a name that no other test has."""
    name = f"shop_{hashlib.sha256(os.fsencode(tmp_path)).hexdigest()[:12]}"
    folder = tmp_path / name / "changes"
    folder.mkdir(parents=True)
    (folder.parent / "__init__.py").touch()
    (folder / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.chdir(tmp_path)
    before = set(sys.modules)
    yield folder
    # Only what the test has written: a second aflamingock would have other classes.
    for module in set(sys.modules) - before:
        path = getattr(sys.modules[module], "__file__", None) or ""
        if module.partition(".")[0] == name or path.startswith(str(tmp_path)):
            del sys.modules[module]


def name_of(package: Path) -> str:
    return f"{package.parent.name}.changes"


def write(folder: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_text(textwrap.dedent(text))


def load(
    *locations: Location, profiles: Sequence[str] = (), targets: Sequence[str] = ()
) -> Pipeline:
    stages = [Stage("main", location=locations)]
    pipeline, faults = read_pipeline(stages, profiles=profiles, targets=targets)
    if faults:
        raise ConfigurationError.joining(faults)

    return pipeline


def ids(pipeline: Pipeline) -> list[str]:
    return [change.id for change in pipeline.changes()]


def faults(*locations: Location) -> list[ConfigurationError]:
    with pytest.raises(ConfigurationError) as caught:
        load(*locations)

    return list(caught.value.faults)


def fault(*locations: Location) -> str:
    (found,) = faults(*locations)
    return str(found)


@change(id="by-hand", author="team", order="0001")
class ByHand:
    async def execute(self) -> None: ...


def make_change(id: str) -> type:
    @change(id=id, author="team", order="1")
    class Made:
        async def execute(self) -> None: ...

    return Made
