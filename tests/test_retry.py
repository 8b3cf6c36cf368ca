"""Patience with a database that is locked by somebody else."""

from __future__ import annotations

import logging

import pytest

from aflamingock._records import Lease
from aflamingock._retry import Patience, Retries
from aflamingock.exceptions import AuditStoreConnectionError, LockTimeoutError, SystemBusyError


class Time:
    """Time that passes only while somebody sleeps."""

    def __init__(self) -> None:
        self.now = 50.0
        self.pauses: list[float] = []

    def clock(self) -> float:
        return self.now

    async def sleep(self, seconds: float) -> None:
        self.pauses.append(seconds)
        self.now += seconds


class Busy:
    """An operation that finds the database locked until a moment."""

    def __init__(self, time: Time, *, until: float = float("inf")) -> None:
        self.tries = 0
        self._time = time
        self._until = until

    async def __call__(self) -> str:
        self.tries += 1
        if self._time.now < self._until:
            raise SystemBusyError("The database is locked.")

        return "done"


@pytest.fixture
def time() -> Time:
    return Time()


def _patience(time: Time, *, limit: float, holder: Lease | None = None, drawn: float = 1.0):
    return Patience(
        limit=limit, holder=holder, clock=time.clock, sleep=time.sleep, draw=lambda: drawn
    )


async def test_what_is_not_busy_is_done_at_once(time):
    operation = Busy(time, until=0.0)

    assert await _patience(time, limit=0.0)(operation) == "done"
    assert operation.tries == 1
    assert time.pauses == []


async def test_what_is_tried_again_is_counted(time):
    retries = Retries()
    assert retries.told() == {}

    patience = Patience(limit=60.0, retries=retries, clock=time.clock, sleep=time.sleep)
    operation = Busy(time, until=50.03)
    await patience(operation)

    assert retries.told() == {"retries": str(operation.tries - 1)}


async def test_pauses_double_up_to_a_second(time):
    assert await _patience(time, limit=60.0)(Busy(time, until=53.0)) == "done"
    assert time.pauses == pytest.approx([0.02, 0.04, 0.08, 0.16, 0.32, 0.64, 1.0, 1.0])


async def test_pauses_have_full_jitter(time):
    await _patience(time, limit=60.0, drawn=0.25)(Busy(time, until=50.03))

    assert time.pauses == pytest.approx([0.005, 0.01, 0.02])


async def test_it_gives_up_at_the_limit_and_keeps_the_cause(time):
    operation = Busy(time)
    with pytest.raises(LockTimeoutError, match=r"The database is locked\. It was still so after"):
        await _patience(time, limit=3.0)(operation)

    assert time.now >= 53.0
    assert time.now < 54.1


async def test_without_a_limit_there_is_one_try(time):
    operation = Busy(time)
    with pytest.raises(LockTimeoutError) as given_up:
        await _patience(time, limit=0.0)(operation)

    assert operation.tries == 1
    assert isinstance(given_up.value.__cause__, SystemBusyError)
    assert given_up.value.holder is None
    assert "whoever holds it" in str(given_up.value)


async def test_it_names_the_holder_when_it_gives_up(time):
    holder = Lease(service="s", owner="o", epoch=1, ttl=60.0, host="db-1", pid=42)
    with pytest.raises(LockTimeoutError, match=r"db-1 \(process 42\)") as given_up:
        await _patience(time, limit=1.0, holder=holder)(Busy(time))

    assert given_up.value.holder is holder


async def test_other_errors_pass_at_once(time):
    async def fails() -> None:
        raise AuditStoreConnectionError("out of reach")

    with pytest.raises(AuditStoreConnectionError):
        await _patience(time, limit=60.0)(fails)

    assert time.pauses == []


async def test_the_check_stands_before_each_try(time):
    checks = 0

    def check() -> None:
        nonlocal checks
        checks += 1
        if checks == 3:
            raise InterruptedError

    operation = Busy(time)
    with pytest.raises(InterruptedError):
        await _patience(time, limit=60.0)(operation, check=check)

    assert operation.tries == 2


async def test_a_long_wait_is_told_every_ten_seconds(time, caplog):
    with caplog.at_level(logging.WARNING), pytest.raises(LockTimeoutError):
        await _patience(time, limit=25.0)(Busy(time))

    assert [record.levelname for record in caplog.records] == ["WARNING"] * 3
    assert "The database is locked. Waiting for whoever holds it." in caplog.text


async def test_a_short_wait_is_not_told(time, caplog):
    with caplog.at_level(logging.WARNING):
        await _patience(time, limit=60.0)(Busy(time, until=50.1))

    assert caplog.records == []


async def test_each_call_waits_for_itself(time):
    patience = _patience(time, limit=3.0)
    await patience(Busy(time, until=52.9))
    time.now += 100.0

    assert await patience(Busy(time, until=time.now + 2.9)) == "done"
