"""What lies between a process and a server: requests and answers get late, lost or doubled."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from enum import StrEnum
from typing import TypeVar, cast

from .process import Process
from .world import World

T = TypeVar("T")

_LOOK_AGAIN = 0.05
_AT_FOCUS = 0.3


class LockedError(Exception):
    """A transaction of somebody else stands in the way; the server waits for its end."""


class Fault(StrEnum):
    """What can become of a request."""

    NONE = "none"
    REFUSED = "refused"
    BUSY = "busy"
    REQUEST_LOST = "request lost"
    REPLY_LOST = "reply lost"
    LATE = "late"
    DOUBLED = "doubled"


_WEIGHTS = {
    Fault.REFUSED: 3,
    Fault.BUSY: 3,
    Fault.REQUEST_LOST: 3,
    Fault.REPLY_LOST: 4,
    Fault.LATE: 3,
    Fault.DOUBLED: 2,
}


@dataclass(frozen=True, kw_only=True)
class Told:
    """
    What a driver raises.

    :ivar refused: surely nothing was done
    :ivar lost: no answer came
    :ivar busy: surely nothing was done, and somebody else is at work
    :ivar may_double: whether the request may arrive twice, as with drivers that send it again
    """

    refused: Callable[[str], Exception]
    lost: Callable[[str], Exception]
    busy: Callable[[str], Exception]
    may_double: bool = True


class Network:
    """
    Carries the calls of all processes.

    :ivar fault_rate: how many of the requests meet a fault
    :ivar focus: what kind of request meets more of them
    :ivar patience: after how many seconds a driver gives up
    :ivar lock_wait: for how many seconds a server waits for a lock
    """

    def __init__(self, world: World) -> None:
        draw = world.random
        self.world = world
        self.fault_rate = draw.choice((0.0, 0.01, 0.03, 0.1, 0.3))
        self.focus = ""
        self.latency = draw.choice((0.001, 0.01, 0.05, 0.3))
        self.patience = draw.choice((1.0, 3.0, 8.0))
        self.lock_wait = draw.choice((0.3, 2.0, 5.0))

    async def call(self, process: Process, what: str, serve: Callable[[], T], told: Told) -> T:
        """
        Let a server do something.

        :param serve: does it at once; raises :exc:`LockedError` where the server has to wait
        """
        if not process.is_alive:
            raise told.refused("This process is dead.")

        process.reaches(what)
        reply = asyncio.get_running_loop().create_future()
        fault = self._draw(process, what)
        if fault is not Fault.NONE:
            self.world.note(process, fault, what)

        there, back = self._travel(), self._travel()
        if fault in (Fault.REFUSED, Fault.BUSY):
            error = told.refused if fault is Fault.REFUSED else told.busy
            self._fail(reply, there, error(f"{what}: {fault}"))
        else:
            self._send(reply, what, serve, told, fault, there, back)

        return cast(T, await reply)

    def _send(
        self,
        reply: asyncio.Future,
        what: str,
        serve: Callable[[], T],
        told: Told,
        fault: Fault,
        there: float,
        back: float,
    ) -> None:
        draw = self.world.random
        if fault is Fault.LATE:
            there += draw.choice((1.0, 4.0)) * self.patience * draw.random()

        if fault in (Fault.REQUEST_LOST, Fault.REPLY_LOST, Fault.LATE):
            # the connection is reset at once, or nothing is heard until the driver gives up
            gives_up = 2 * back if draw.random() < 0.5 else self.patience
            self._fail(reply, gives_up, told.lost(f"{what}: no answer"))
        else:
            self._fail(reply, self.patience + self.lock_wait, told.lost(f"{what}: time-out"))

        answers = None if fault is Fault.REPLY_LOST else reply
        if fault is not Fault.REQUEST_LOST:
            until = self.world.now + there + self.lock_wait
            self.world.after(there, lambda: self._arrive(answers, what, serve, told, back, until))

        if fault is Fault.DOUBLED and told.may_double:
            late = there + draw.random() * 5
            until = self.world.now + late
            self.world.after(late, lambda: self._arrive(None, what, serve, told, back, until))

    def _arrive(
        self,
        reply: asyncio.Future | None,
        what: str,
        serve: Callable[[], object],
        told: Told,
        back: float,
        until: float,
    ) -> None:
        answer: object = None
        error: Exception | None = None
        try:
            answer = serve()
        except LockedError as exc:
            if self.world.now < until:
                again = min(_LOOK_AGAIN, self.lock_wait / 3)
                self.world.after(again, lambda: self._arrive(reply, what, serve, told, back, until))
                return

            error = told.busy(f"{what}: {exc}")
        except Exception as exc:  # the server's answer
            error = exc

        if reply is None:
            return

        if error is not None:
            self._fail(reply, back, error)
        else:
            self.world.after(back, lambda: _settle(reply, answer))

    def _fail(self, reply: asyncio.Future, seconds: float, error: Exception) -> None:
        self.world.after(seconds, lambda: _settle(reply, error))

    def _travel(self) -> float:
        latency = 0.001 if self.world.is_calm else self.latency
        return latency * (0.2 + self.world.random.expovariate(1.0))

    def _draw(self, process: Process, what: str) -> Fault:
        if self.world.now < process.cut_off_until:
            return self.world.random.choice((Fault.REQUEST_LOST, Fault.REPLY_LOST))

        rate = max(self.fault_rate, _AT_FOCUS if what == self.focus else 0.0)
        if self.world.is_calm or not self.world.chance(rate):
            return Fault.NONE

        return self.world.random.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]


def _settle(reply: asyncio.Future, answer: object) -> None:
    if reply.done():
        return

    if isinstance(answer, Exception):
        reply.set_exception(answer)
    else:
        reply.set_result(answer)
