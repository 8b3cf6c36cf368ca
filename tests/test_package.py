from __future__ import annotations

import re
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
FOREIGN = {
    "acouchbase",
    "aioboto3",
    "aiosqlite",
    "boto3",
    "couchbase",
    "fastapi",
    "motor",
    "pymongo",
    "rich",
    "sqlalchemy",
    "sqlite3",
    "starlette",
    "typer",
    "yaml",
}


def loaded_by(statement: str) -> set[str]:
    code = f"import sys; {statement}; print(*sys.modules)"
    run = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    return {name.partition(".")[0] for name in run.stdout.split()}


def test_public_names_are_sorted_and_can_be_imported() -> None:
    package = import_module("aflamingock")

    assert list(package.__all__) == sorted(set(package.__all__))
    assert [name for name in package.__all__ if not hasattr(package, name)] == []


def test_the_version_is_the_changelog_s_newest() -> None:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text("utf-8"))["project"]
    newest = re.search(r"^## \[(\d[^\]]*)\]", (ROOT / "CHANGELOG.md").read_text("utf-8"), re.M)

    assert newest is not None
    assert newest[1] == project["version"]


@pytest.mark.parametrize(
    ("module", "needed"),
    [
        ("aflamingock", set()),
        ("aflamingock.abc", set()),
        ("aflamingock.asgi", set()),
        ("aflamingock.cli", set()),
        ("aflamingock.stores.couchbase", {"acouchbase", "couchbase"}),
        ("aflamingock.stores.memory", set()),
        ("aflamingock.targets.couchbase", {"acouchbase", "couchbase"}),
        ("aflamingock.targets.plain", set()),
        ("aflamingock.stores.sqlite", {"aiosqlite", "sqlite3"}),
        ("aflamingock.targets.sqlite", {"aiosqlite", "sqlite3"}),
    ],
)
def test_an_import_loads_no_more_than_it_needs(module: str, needed: set[str]) -> None:
    assert loaded_by(f"import {module}") & FOREIGN <= needed


def test_the_package_says_that_it_is_typed() -> None:
    assert (ROOT / "aflamingock" / "py.typed").is_file()
