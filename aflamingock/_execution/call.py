"""Calling a coroutine of a change: with what it asks for, and no longer than the lease allows."""

from __future__ import annotations

import inspect
import logging
import math
from collections.abc import Awaitable, Callable, Mapping
from functools import partial

import anyio
import anyio.lowlevel
import anyio.to_thread

from .._change import Change
from .._host import boot_time
from .._injection.guard import fenced
from ..abc import ChangeContext
from ..exceptions import LockLostError
from .context import RunContext


class Caller:
    """
    Calls the coroutines of one change in one run.

    :ivar duration: seconds that the last call took
    :ivar raised: what the last call raised, if the change is to blame
    """

    def __init__(self, run: RunContext, change: Change, stage: str, *, attempt: int) -> None:
        self.duration = 0.0
        self.raised: Exception | None = None
        self._run = run
        self._change = change
        self._context = ChangeContext(
            service=run.origin.service,
            environment=run.origin.environment,
            execution_id=run.origin.execution_id,
            stage=stage,
            change_id=change.id,
            target_system=change.target_system,
            attempt=attempt,
            epoch=run.lease.epoch,
            logger=logging.getLogger("aflamingock.change"),
            check=run.lease.check_renewed,
        )

    async def __call__(
        self,
        method: str,
        objects: Mapping[str, object],
        *,
        guard_objects: bool,
        check: Callable[[], None],
    ) -> object:
        """
        Call ``execute``, ``rollback`` or ``verify``.

        :param objects: what the target system lends
        :param guard_objects: whether calls of these objects end with the lease
        :param check: raises :exc:`LockLostError` once no further step may be made
        :raises LockLostError: if the lease ended meanwhile
        """
        started = boot_time()
        self.raised = None
        try:
            check()
            return await self._run_method(method, objects, guard_objects, check)
        except LockLostError:
            raise
        except Exception as exc:
            self.raised = exc
            raise
        finally:
            self.duration = boot_time() - started

    async def _run_method(
        self,
        method: str,
        objects: Mapping[str, object],
        guard_objects: bool,
        check: Callable[[], None],
    ) -> object:
        function = getattr(self._change.cls(), method)
        arguments = self._run.injector.arguments(
            function,
            context=self._context,
            offers=self._run.targets[self._change.target_system].offers(),
            objects=objects,
            check=check,
            guard_objects=guard_objects,
        )
        try:
            if not inspect.iscoroutinefunction(function):
                # cannot be cut: who abandons the thread leaves the change running
                answer = await anyio.to_thread.run_sync(partial(function, **arguments))
                if inspect.isawaitable(answer):  # a coroutine behind a plain decorator
                    answer = await fenced(_awaited(answer), check)
            elif method == "execute" and self._change.timeout is not None:
                answer = await _within(self._change.timeout, fenced(function(**arguments), check))
            else:
                answer = await fenced(function(**arguments), check)
        except anyio.get_cancelled_exc_class() as exc:
            if is_cancelled():
                raise

            raise RuntimeError(f"{method} was ended by a cancellation of its own.") from exc
        except SystemExit as exc:
            raise RuntimeError(f"{method} called sys.exit({exc.code!r}).") from exc

        # a change that swallowed the cancellation is interrupted all the same
        await anyio.lowlevel.checkpoint_if_cancelled()
        return answer


async def _awaited(work: Awaitable[object]) -> object:
    return await work


async def _within(seconds: float, work: Awaitable[object]) -> object:
    with anyio.move_on_after(seconds) as scope:
        return await work

    if scope.cancelled_caught:
        raise TimeoutError(f"It took longer than its timeout of {seconds:g} s.")

    return None


def is_cancelled() -> bool:
    """Say whether the surrounding work has been cancelled."""
    return anyio.current_effective_deadline() == -math.inf
