"""Random faults of the network: that they find what is wrong."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from blockbuster import BlockBuster

from tests.network.chaos import Schedule
from tests.network.system import System
from tests.simulation.mutants import mutated


@pytest.fixture(autouse=True)
def unguarded(blockbuster: BlockBuster) -> Iterator[None]:
    """Let the schedule write down what happens."""
    blockbuster.deactivate()
    yield
    blockbuster.activate()


@pytest.mark.parametrize("empty_system", ["postgresql"], indirect=True)
async def test_an_engine_that_does_not_wait_for_started_is_found_out(
    system: System, tmp_path: Path
) -> None:
    schedule = Schedule(system, "1", tmp_path / "events")
    with mutated("STARTED is not awaited"):
        await schedule.run()

    assert any(found.startswith("I6: ") for found in schedule.violations), schedule.violations
