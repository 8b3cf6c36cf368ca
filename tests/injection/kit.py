"""What injection and its guard are tested with."""

from __future__ import annotations

import logging

from aflamingock.abc import ChangeContext
from aflamingock.exceptions import LockLostError


class Lease:
    """A lease that ends when a test says so."""

    def __init__(self) -> None:
        self.ended = False
        self.checks = 0

    def check(self) -> None:
        self.checks += 1
        if self.ended:
            raise LockLostError("The lease has ended.")


CONTEXT = ChangeContext(
    service="s",
    environment=None,
    execution_id="e",
    stage="main",
    change_id="c-1",
    target_system="db",
    attempt=1,
    epoch=1,
    logger=logging.getLogger("test"),
    check=lambda: None,
)
