"""How many schedules are run, and from which seed on."""

from __future__ import annotations

import pytest


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addoption("--schedules", type=int, default=200, help="how many, in all")
    parser.addoption("--first-seed", type=int, default=0, help="the seed of the first")
