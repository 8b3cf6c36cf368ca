"""What changes ask for, in every way, and what they are offered."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import AbstractAsyncContextManager
from enum import Enum
from typing import TYPE_CHECKING, Annotated, Any, Generic, Protocol, TypeVar, runtime_checkable

from aflamingock._change import Change
from aflamingock._injection.annotation import Named, NonLockGuarded
from aflamingock._injection.injection import Injector
from aflamingock.abc import AuditStore, ChangeContext, Offer
from aflamingock.exceptions import InjectionError
from tests.injection.kit import CONTEXT

if TYPE_CHECKING:
    from elsewhere import Unseen  # type: ignore[import-not-found]  # as names only types know

T = TypeVar("T")


class Sender:
    def send(self) -> str:
        return "sent"


class Mailer(Sender):
    pass


class Queue(Generic[T]):
    def put(self) -> str:
        return "put"


@runtime_checkable
class CanPut(Protocol):
    def put(self) -> str: ...


@runtime_checkable
class HasTopic(Protocol):
    topic: str


class Unchecked(Protocol):
    def put(self) -> str: ...


class Connection:
    def execute(self) -> str:
        return "executed"


class SQLConnection(Connection):
    pass


class Cursor:
    pass


class Store(AuditStore[Any]):
    def open_side_channel(self) -> AbstractAsyncContextManager[AuditStore[Any]] | None:
        return None


class Colour(Enum):
    RED = 1


OFFERS = (
    Offer(names=("connection", "db", "session"), type=SQLConnection),
    Offer(names=("cursor",), type=Cursor),
)

OBJECTS: Mapping[str, object] = {"connection": SQLConnection(), "cursor": Cursor()}


def of(method: Callable[..., object], **more: object) -> Change:
    """Return a change whose ``execute`` is *method*."""
    members = {"execute": method, "__module__": method.__module__, **more}
    return Change(id="c-1", author="a", order="1", cls=type("C", (), members), file="c.py", line=1)


def faults(
    method: Callable[..., object], dependencies: Mapping[str, object], **more: object
) -> list[str]:
    found = Injector(dependencies).faults(of(method, **more), OFFERS)
    assert all(isinstance(fault, InjectionError) for fault in found)
    return [str(fault) for fault in found]


def arguments(
    method: Callable[..., object],
    dependencies: Mapping[str, object],
    *,
    offers: Sequence[Offer] = OFFERS,
    check: Callable[[], None] = lambda: None,
    guard_objects: bool = False,
) -> dict[str, object]:
    return Injector(dependencies).arguments(
        getattr(of(method).cls(), "execute"),  # noqa: B009 - the class is made at run time
        context=CONTEXT,
        offers=offers,
        objects=OBJECTS,
        check=check,
        guard_objects=guard_objects,
    )


async def asks_nothing(self) -> None: ...


async def by_name(self, connection, ctx, context, retries): ...


async def by_type(self, it: Connection, run: ChangeContext, out: Sender) -> None: ...


async def by_union(self, it: Connection | Queue[int]) -> None: ...


async def by_generic(self, jobs: Queue[dict[str, int]]) -> None: ...


async def by_protocol(self, jobs: CanPut) -> None: ...


async def by_shape(self, jobs: HasTopic) -> None: ...


async def by_unchecked_protocol(self, jobs: Unchecked) -> None: ...


async def by_any(self, db: Any, cursor: object, jobs: T) -> None: ...


async def by_given_name(self, jobs: Annotated[Queue[int], Named("orders")]) -> None: ...


async def by_word(self, url: str, batch: int) -> None: ...


async def optional(self, out: Sender | None, jobs: Queue[int] | None = None, size: int = 7): ...


async def unguarded(
    self,
    out: Annotated[Sender, NonLockGuarded],
    jobs: Annotated[Queue[int], NonLockGuarded()] | None,
) -> None: ...


async def unseen(self, cursor: Unseen, jobs: Unseen, out: Sender) -> Unseen: ...


async def takes_all(self, cursor: Cursor, /, *rest: int, **more: int) -> None: ...


async def store(self, store: AuditStore[Any] | None = None, other: Store | None = None): ...
