"""The transactions of Couchbase's SDK, as a block that runs once."""

from __future__ import annotations

import warnings
from asyncio import FIRST_COMPLETED, Event, Future, Task, get_running_loop, wait
from collections.abc import AsyncIterator, Awaitable
from contextlib import asynccontextmanager
from datetime import timedelta
from typing import TYPE_CHECKING, Any

import anyio
from acouchbase.transactions import AttemptContext
from couchbase.exceptions import CouchbaseException, TransactionException
from couchbase.options import TransactionOptions

from .._host import boot_time
from ..exceptions import FlamingockError, SystemBusyError, UnknownOutcomeError
from ._couchbase import DURABLE, limit, settled

if TYPE_CHECKING:
    from acouchbase.cluster import AsyncCluster

    _Native = object  # of the SDK's class nothing is known to type checkers
else:
    _Native = AttemptContext  # so that a change that asks for the SDK's class gets ours


class TransactionContext(_Native):
    """
    The SDK's context of a transaction, which the code in it cannot end.

    An operation of it is awaited to its end even when cancelled.

    :param native: the SDK's own; ``None`` where there is no transaction
    :ivar failure: the first error that has broken the transaction, so that it cannot be committed
    """

    def __init__(self, native: AttemptContext | None) -> None:
        self._native = native
        self.failure: TransactionException | None = None

    def close(self) -> None:
        """Refuse what comes after the end of the block."""
        self._native = None

    async def _do(self, operation: str, *arguments: Any, **options: Any) -> Any:
        native = self._native
        if native is None:
            raise FlamingockError(
                "There is no transaction here, or it is over. Use the collection itself where a "
                "change has transactional=False."
            )

        try:
            return await settled(lambda: getattr(native, operation)(*arguments, **options))
        except TransactionException as exc:
            self.failure = self.failure or exc
            raise

    def get(self, *arguments: Any, **options: Any) -> Awaitable[Any]:
        """Get a document, as the SDK does."""
        return self._do("get", *arguments, **options)

    def get_replica_from_preferred_server_group(
        self, *arguments: Any, **options: Any
    ) -> Awaitable[Any]:
        """Get a document, as the SDK does."""
        return self._do("get_replica_from_preferred_server_group", *arguments, **options)

    def get_multi_replicas_from_preferred_server_group(
        self, *arguments: Any, **options: Any
    ) -> Awaitable[Any]:
        """Get documents, as the SDK does."""
        return self._do("get_multi_replicas_from_preferred_server_group", *arguments, **options)

    def get_multi(self, *arguments: Any, **options: Any) -> Awaitable[Any]:
        """Get documents, as the SDK does."""
        return self._do("get_multi", *arguments, **options)

    def insert(self, *arguments: Any, **options: Any) -> Awaitable[Any]:
        """Insert a document, as the SDK does."""
        return self._do("insert", *arguments, **options)

    def replace(self, *arguments: Any, **options: Any) -> Awaitable[Any]:
        """Replace a document, as the SDK does."""
        return self._do("replace", *arguments, **options)

    def remove(self, *arguments: Any, **options: Any) -> Awaitable[Any]:
        """Remove a document, as the SDK does."""
        return self._do("remove", *arguments, **options)

    def query(self, *arguments: Any, **options: Any) -> Awaitable[Any]:
        """Run a statement, as the SDK does."""
        return self._do("query", *arguments, **options)


class _Undone(Exception):
    """Makes the SDK roll back."""


def options_of(timeout: float) -> TransactionOptions:
    """Return the SDK's options of a transaction."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # it warns of another option, which is not given
        return TransactionOptions(timeout=timedelta(seconds=timeout), durability=DURABLE)


def _take_note(task: Task[None]) -> None:
    if not task.cancelled():
        task.exception()  # else the event loop complains of one that nobody waits for any more


class _Transaction:
    """
    A transaction that the SDK runs in a task of its own, around a block that runs elsewhere.

    The SDK calls its logic again when a commit has failed, also if it does not know how. The
    block has run by then, and must not run twice: the second call rolls back.
    """

    def __init__(self, cluster: AsyncCluster, *, timeout: float) -> None:
        options = options_of(timeout)
        loop = get_running_loop()
        self._timeout = timeout
        self._begun: Future[AttemptContext] = loop.create_future()
        self._over = Event()
        self._is_good = False
        # The SDK awaits the block, and the block is where it is: a scope cannot hold this task.
        self._task = loop.create_task(self._run(cluster, options))
        self._task.add_done_callback(_take_note)

    async def _run(self, cluster: Any, options: TransactionOptions) -> None:
        await cluster.transactions.run(self._logic, options)

    async def _logic(self, native: AttemptContext) -> None:
        if self._begun.done():
            raise _Undone

        self._begun.set_result(native)
        await self._over.wait()
        if not self._is_good:
            raise _Undone

    async def begin(self) -> AttemptContext:
        either: set[Future[Any]] = {self._begun, self._task}
        try:
            await wait(either, return_when=FIRST_COMPLETED)
        except BaseException:
            await self.end(commit=False)
            raise

        if not self._begun.done():
            await self._task

        return self._begun.result()

    async def end(self, *, commit: bool) -> Exception | None:
        """Commit or roll back, and return what that has raised."""
        within = self._timeout + limit().total_seconds()
        self._is_good = commit
        self._over.set()
        with anyio.move_on_after(within, shield=True):
            await wait({self._task})

        if not self._task.done():
            return TimeoutError(f"The SDK has not answered within {within:g} s.")

        error = self._task.exception()
        return error if isinstance(error, Exception) else None


@asynccontextmanager
async def transact(
    cluster: AsyncCluster, *, timeout: float, name: str
) -> AsyncIterator[TransactionContext]:
    """
    Run a transaction: committed at the end of the block, rolled back if that raises.

    :param timeout: seconds after which the server side takes the transaction for lost
    :param name: what messages call the place
    :raises FlamingockError: if the block has hidden an error that has broken the transaction, or
        has taken too long; nothing was done
    :raises SystemBusyError: if it could not be begun; nothing was done
    :raises UnknownOutcomeError: if the commit may or may not have been done
    """
    started = boot_time()
    transaction = _Transaction(cluster, timeout=timeout)
    try:
        context = TransactionContext(await transaction.begin())
    except CouchbaseException as exc:
        raise SystemBusyError(
            f"A transaction on {name} could not be begun, and nothing was done. Try again."
        ) from exc

    try:
        yield context
        _check(context, boot_time() - started, timeout, name)
    except BaseException:
        context.close()
        await transaction.end(commit=False)
        raise

    context.close()
    error = await transaction.end(commit=True)
    if error is not None:
        raise UnknownOutcomeError(
            f"The commit of a transaction on {name} has failed ({type(error).__name__}): it may or "
            "may not have been done."
        ) from error


def _check(context: TransactionContext, duration: float, timeout: float, name: str) -> None:
    if context.failure is not None:
        raise FlamingockError(
            f"The transaction on {name} was broken by an error that the code in it has hidden, and "
            "is rolled back."
        ) from context.failure

    if duration >= timeout:
        raise FlamingockError(
            f"The transaction on {name} has taken {duration:.1f} s, longer than its timeout of "
            f"{timeout:g} s, and is rolled back. Raise transaction_timeout, or give the change "
            "transactional=False."
        )
