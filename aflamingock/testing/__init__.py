"""
What an audit store or a target system must pass, for those who write one.

A suite is a class of tests. Subclass it under a name that begins with ``Test``, give it the
fixture that it asks for, and let pytest-asyncio or anyio's plugin run it::

    @pytest.mark.asyncio
    class TestMyAuditStore(AuditStoreSuite):
        @pytest.fixture
        def make_store(self, tmp_path):
            return lambda: MyAuditStore(tmp_path / "audit")
"""

from __future__ import annotations

import pytest

# So that a failed assertion in the suites shows its values, as in tests of one's own.
for _module in ("_log", "_record", "_schema", "stores", "targets"):
    pytest.register_assert_rewrite(f"{__name__}.{_module}")

from .stores import AuditStoreSuite  # noqa: E402 - after the line above, or it has no effect
from .targets import TargetSystemSuite  # noqa: E402 - after that line, too

__all__ = ["AuditStoreSuite", "TargetSystemSuite"]
