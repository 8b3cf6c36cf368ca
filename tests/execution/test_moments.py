"""Work that is cut off at every moment: the log tells the truth, and the next run completes."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from itertools import count, cycle
from pathlib import Path
from typing import Any

import anyio.lowlevel
import pytest

from aflamingock import (
    AuditState,
    AuditType,
    ChangeFailedError,
    Flamingock,
    LockOptions,
    Resolution,
)
from aflamingock.asgi import lifespan
from tests.kit import entries, entry, lease_of, leave, take_lease

from .moments import CUTS, SETTLED, Shop, TransactionalShop, Work, cut_at


@pytest.fixture(params=["memory", "shop.db", "log.db"])
def new_shop(request: pytest.FixtureRequest, tmp_path: Path) -> Callable[[], Shop]:
    """Changes without transactions, in transactions with the log, and in others."""
    numbers = count()

    def make() -> Shop:
        if request.param == "memory":
            return Shop()

        folder = tmp_path / str(next(numbers))
        folder.mkdir()
        return TransactionalShop(folder, request.param)

    return make


async def starting(flamingock: Flamingock) -> None:
    """Start an application, as a server does."""
    async with lifespan(flamingock)(None):
        await anyio.lowlevel.checkpoint()


async def test_a_run_is_cut_off_at_every_moment(new_shop: Callable[[], Shop]) -> None:
    await cut_at_every_moment(new_shop, Flamingock.run)


async def test_a_lifespan_is_cut_off_at_every_moment() -> None:
    await cut_at_every_moment(Shop, starting)


async def cut_at_every_moment(new_shop: Callable[[], Shop], work: Work) -> None:
    cuts = 0
    for moment, cut in zip(count(), cycle(CUTS), strict=False):
        shop = new_shop()
        if not await cut_at(moment, cut, shop, work):
            break

        cuts += 1
        await shop.check()
        await shop.check_next_run()

    assert cuts >= 50


async def test_an_undo_is_cut_off_at_every_moment(new_shop: Callable[[], Shop]) -> None:
    cuts = 0
    for moment, cut in zip(count(), cycle(CUTS), strict=False):
        shop = new_shop()
        await shop.flamingock().run()
        if not await cut_at(moment, cut, shop, lambda flamingock: flamingock.undo(last=2)):
            break

        cuts += 1
        await shop.check(*SETTLED, AuditState.ROLLBACK_FAILED)

    assert cuts >= 25


async def test_a_run_that_waits_for_the_lease_is_cut_off_at_any_moment() -> None:
    for moment, cut in zip(range(60), cycle(CUTS), strict=False):
        shop = Shop(lock=LockOptions(retry_interval=0.001))
        await take_lease(shop.store)
        assert await cut_at(moment, cut, shop, Flamingock.run)
        assert await entries(shop.store) == []
        assert shop.done() == []


async def test_a_resolution_is_cut_off_at_every_moment() -> None:
    cuts = 0
    for moment, cut in zip(count(), cycle(CUTS), strict=False):
        shop = Shop()
        await leave(shop.store, entry("a", AuditState.STARTED))
        if not await cut_at(moment, cut, shop, resolve):
            break

        cuts += 1
        is_said = (await entries(shop.store))[-1].state is AuditState.MANUAL_MARKED_AS_APPLIED
        assert [issue.status for issue in await shop.store.issues("default")] == [
            "RESOLVED"
        ] * is_said
        lease = await lease_of(shop.store)
        assert lease is None or lease.released

    assert cuts >= 20


def resolve(flamingock: Flamingock) -> Coroutine[Any, Any, object]:
    """Say that a change is applied."""
    return flamingock.audit.resolve("a", Resolution.APPLIED)


async def test_a_release_by_force_is_cut_off_at_every_moment() -> None:
    cuts = 0
    for moment, cut in zip(count(), cycle(CUTS), strict=False):
        shop = Shop()
        await leave(shop.store, entry("a", AuditState.APPLIED))
        await take_lease(shop.store)
        if not await cut_at(moment, cut, shop, release):
            break

        cuts += 1
        lease = await lease_of(shop.store)
        assert lease is not None
        told = [one.type for one in await entries(shop.store)]
        assert (AuditType.LOCK_RELEASED in told) == lease.released

    assert cuts >= 10


def release(flamingock: Flamingock) -> Coroutine[Any, Any, object]:
    """Take the lease from its holder."""
    return flamingock.lock.release(force=True)


@pytest.mark.parametrize("place", range(2))
async def test_a_change_whose_time_runs_out_has_failed_wherever_it_is(
    new_shop: Callable[[], Shop], place: int
) -> None:
    shop = new_shop()
    shop.changes = [shop.change("a", timeout=0.05), *shop.changes[1:]]
    shop.stays_at = place
    with pytest.raises(ChangeFailedError, match="longer than its timeout"):
        await shop.flamingock().run()

    await shop.check()
    await shop.check_next_run()
