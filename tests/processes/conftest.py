"""Projects whose processes and databases do not outlive their test."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from tests.places import Places
from tests.servers import once, sql

from .kit import Project
from .process import nursery


@pytest.fixture
def new_project(
    tmp_path: Path, request: pytest.FixtureRequest, excused: None, blockbuster: BlockBuster
) -> Iterator[Callable[..., Project]]:
    """A function that makes projects; to be called by the thread of the test."""
    sql.excuse_drivers(blockbuster)
    numbers = count(1)
    with ExitStack() as stack:
        places = Places(request)
        stack.callback(places.close)

        def make(layout: str = "one file") -> Project:
            folder = tmp_path / str(next(numbers))
            project = Project(folder, once(request.config, nursery), places, layout)
            stack.callback(project.close)
            return project

        yield make


@pytest.fixture
def project(new_project: Callable[..., Project]) -> Project:
    """A project on SQLite, unless the test gives it another layout."""
    return new_project()
