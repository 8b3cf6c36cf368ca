"""Calls of DynamoDB, and the kinds of errors that matter for what to do next."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator, Mapping
from contextvars import ContextVar
from enum import Enum
from typing import Any, TypeVar

import anyio
from botocore.exceptions import (  # type: ignore[import-untyped]  # botocore has no types
    BotoCoreError,
    ClientError,
    EndpointConnectionError,
    HTTPClientError,
    ParamValidationError,
    SSLError,
)

T = TypeVar("T")

TIME_LIMIT = 12.0
"""How long a call may take in all, with the driver's own retries, in seconds."""

_REFUSED = {"ConditionalCheckFailed", "ConditionalCheckFailedException"}
_BUSY = {
    "LimitExceededException",
    "ProvisionedThroughputExceeded",
    "ProvisionedThroughputExceededException",
    "ReplicatedWriteConflictException",
    "RequestLimitExceeded",
    "Throttling",
    "ThrottlingError",
    "ThrottlingException",
    "TransactionConflict",
    "TransactionConflictException",
}
_DENIED = {"AccessDenied", "AccessDeniedException"}
_STRANGE = {
    "ExpiredToken",
    "ExpiredTokenException",
    "IncompleteSignature",
    "IncompleteSignatureException",
    "InvalidClientTokenId",
    "InvalidSignatureException",
    "MissingAuthenticationToken",
    "MissingAuthenticationTokenException",
    "SignatureDoesNotMatch",
    "UnrecognizedClientException",
}

_lost_answers: ContextVar[list[object] | None] = ContextVar("_lost_answers", default=None)


class Trouble(Enum):
    """Why a call has failed, as far as it matters what to do next."""

    REFUSED = "a condition does not hold"
    BUSY = "throttled, or in conflict with a transaction; nothing was done"
    UNREACHABLE = "nothing was sent, or the keys are unknown; nothing was done"
    IN_DOUBT = "an answer was lost; a write may have been done"
    DENIED = "the user lacks a right"
    MISSING = "the table does not exist"
    OTHER = "anything else"


class CallError(Exception):
    """
    A call has failed.

    :ivar trouble: why
    :ivar cause: what the driver has raised
    """

    def __init__(self, trouble: Trouble, cause: Exception) -> None:
        super().__init__(trouble, cause)
        self.trouble = trouble
        self.cause = cause

    @property
    def code(self) -> str:
        """Return the code of the answer, or the class of the error if there was none."""
        code = _response(self.cause).get("Error", {}).get("Code")
        return str(code or type(self.cause).__name__)

    def refused(self) -> Iterator[tuple[int, Mapping[str, Any] | None]]:
        """Yield the numbers of the refused writes, from 0, and the items that stand there."""
        response = _response(self.cause)
        for number, reason in enumerate(response.get("CancellationReasons", ())):
            if reason.get("Code") in _REFUSED:
                yield number, reason.get("Item")

        if self.code in _REFUSED:
            yield 0, response.get("Item")


async def answer(call: Callable[..., Awaitable[T]], **arguments: Any) -> T:
    """
    Return what a call of a client from :func:`watch` returns.

    The driver tries three times by itself. That an answer was lost on the way is not forgotten
    over what the last try said.

    :raises CallError: if it has failed
    """
    lost: list[object] = []
    before = _lost_answers.set(lost)
    try:
        with anyio.move_on_after(TIME_LIMIT):
            return await call(**arguments)
    except (BotoCoreError, ClientError) as exc:
        raise CallError(_trouble(exc, lost=bool(lost)), exc) from exc
    finally:
        _lost_answers.reset(before)

    late = TimeoutError(f"There was no answer within {TIME_LIMIT:g} s.")
    raise CallError(Trouble.IN_DOUBT, late)


def watch(client: Any) -> None:
    """Note from now on which answers of a client are lost, for :func:`answer`."""
    client.meta.events.register("response-received.dynamodb", _note_answer)


def _note_answer(
    response_dict: Mapping[str, Any] | None, exception: Exception | None, **_: object
) -> None:
    lost = _lost_answers.get()
    status = response_dict["status_code"] if response_dict else 0
    if lost is not None and (status >= 500 or (exception and _may_be_sent(exception))):
        lost.append(exception or status)


def _may_be_sent(exc: Exception) -> bool:
    from aiohttp import ClientConnectorError  # loaded by the client that has failed

    if isinstance(exc, (EndpointConnectionError, SSLError)):  # also of a connection that broke
        return not isinstance(exc.kwargs.get("error"), ClientConnectorError)

    return isinstance(exc, HTTPClientError)


def _trouble(exc: Exception, *, lost: bool) -> Trouble:
    trouble = _trouble_of_answer(exc) if isinstance(exc, ClientError) else _trouble_of_driver(exc)
    if lost and trouble in (Trouble.BUSY, Trouble.UNREACHABLE):
        return Trouble.IN_DOUBT

    return trouble


def _trouble_of_answer(exc: ClientError) -> Trouble:
    response = _response(exc)
    reasons = {reason.get("Code") for reason in response.get("CancellationReasons", ())}
    codes = reasons - {None, "None"} or {response.get("Error", {}).get("Code")}
    if codes & _REFUSED:
        return Trouble.REFUSED

    kinds = {
        Trouble.BUSY: _BUSY,
        Trouble.DENIED: _DENIED,
        Trouble.UNREACHABLE: _STRANGE,
        Trouble.MISSING: {"ResourceNotFoundException"},
        Trouble.IN_DOUBT: {"TransactionInProgressException"},
    }
    for trouble, known in kinds.items():
        if codes <= known:
            return trouble

    status = response.get("ResponseMetadata", {}).get("HTTPStatusCode", 0)
    return Trouble.IN_DOUBT if status >= 500 else Trouble.OTHER


def _trouble_of_driver(exc: Exception) -> Trouble:
    if isinstance(exc, ParamValidationError):
        return Trouble.OTHER

    # That there are no credentials is among what is not sent.
    return Trouble.IN_DOUBT if _may_be_sent(exc) else Trouble.UNREACHABLE


def _response(exc: Exception) -> Mapping[str, Any]:
    response: Mapping[str, Any] = getattr(exc, "response", None) or {}
    return response
