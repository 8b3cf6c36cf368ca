"""A lease that ends when a test says so."""

from __future__ import annotations

import pytest

from tests.injection.kit import Lease


@pytest.fixture
def lease() -> Lease:
    return Lease()
