"""What the tests of target systems have in common."""

from __future__ import annotations

import pytest

from aflamingock.exceptions import ConfigurationError


async def check_that_it_must_be_open(target) -> None:
    """Check what a target system says before it is opened, and after it was closed."""
    for _ in range(2):
        for use in (target.handles, target.transaction):
            with pytest.raises(ConfigurationError, match="not open"):
                async with use():
                    pass

        for call in (target.claim_marker("k", "c"), target.remove_marker("k")):
            with pytest.raises(ConfigurationError, match="not open"):
                await call

        await target.open()
        await target.aclose()
