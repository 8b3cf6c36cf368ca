"""The frames of the key-value protocol, and the words in them."""

from __future__ import annotations

import asyncio
import struct
from dataclasses import dataclass, field
from enum import IntEnum

_HEADER = struct.Struct(">BBHBBHIIQ")
_REQUEST, _RESPONSE, _FLEXIBLE_REQUEST = 0x80, 0x81, 0x08
_DURABILITY = 1


class Opcode(IntEnum):
    GET = 0x00
    UPSERT = 0x01
    INSERT = 0x02
    REPLACE = 0x03
    REMOVE = 0x04
    NOOP = 0x0A
    TOUCH = 0x1C
    GET_AND_TOUCH = 0x1D
    HELLO = 0x1F
    SASL_LIST = 0x20
    SASL_AUTH = 0x21
    SASL_STEP = 0x22
    SELECT_BUCKET = 0x89
    GET_AND_LOCK = 0x94
    UNLOCK = 0x95
    GET_META = 0xA0
    GET_CONFIG = 0xB5
    GET_MANIFEST = 0xBA
    GET_COLLECTION_ID = 0xBB
    LOOKUP_IN = 0xD0
    MUTATE_IN = 0xD1
    GET_ERROR_MAP = 0xFE


class Status(IntEnum):
    SUCCESS = 0x00
    NOT_FOUND = 0x01
    EXISTS = 0x02
    TOO_BIG = 0x03
    INVALID = 0x04
    NO_BUCKET = 0x08
    LOCKED = 0x09
    NOT_LOCKED = 0x0E
    AUTH_ERROR = 0x20
    AUTH_CONTINUE = 0x21
    NO_ACCESS = 0x24
    UNKNOWN_COMMAND = 0x81
    TEMPORARY_FAILURE = 0x86
    UNKNOWN_COLLECTION = 0x88
    UNKNOWN_SCOPE = 0x8C
    DURABILITY_IMPOSSIBLE = 0xA1
    SYNC_WRITE_IN_PROGRESS = 0xA2
    SYNC_WRITE_AMBIGUOUS = 0xA3
    PATH_NOT_FOUND = 0xC0
    PATH_MISMATCH = 0xC1
    PATH_INVALID = 0xC2
    DOCUMENT_NOT_JSON = 0xC6
    PATH_EXISTS = 0xC9
    MULTI_PATH_FAILURE = 0xCC
    SUCCESS_DELETED = 0xCD
    UNKNOWN_MACRO = 0xD0
    UNKNOWN_VIRTUAL = 0xD1
    MULTI_PATH_FAILURE_DELETED = 0xD3
    CANNOT_REVIVE = 0xD6


class Refusal(Exception):
    """A request is answered with an error."""

    def __init__(self, status: Status, value: bytes = b"") -> None:
        super().__init__(status)
        self.status = status
        self.value = value


@dataclass(frozen=True, slots=True, kw_only=True)
class Request:
    opcode: int
    opaque: int
    cas: int
    key: bytes
    extras: bytes
    value: bytes
    datatype: int
    is_durable: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    value: bytes = b""
    extras: bytes = b""
    cas: int = 0
    status: Status = Status.SUCCESS
    datatype: int = field(default=0)

    def encode(self, request: Request) -> bytes:
        size = len(self.extras) + len(self.value)
        head = (_RESPONSE, request.opcode, 0, len(self.extras), self.datatype, self.status, size)
        return _HEADER.pack(*head, request.opaque, self.cas) + self.extras + self.value


async def read_request(reader: asyncio.StreamReader) -> Request:
    header = await reader.readexactly(_HEADER.size)
    magic, opcode, key_size, extras_size, datatype, _, size, opaque, cas = _HEADER.unpack(header)
    framing_size = 0
    if magic == _FLEXIBLE_REQUEST:
        framing_size, key_size = key_size >> 8, key_size & 0xFF
    elif magic != _REQUEST:
        raise ConnectionError(f"no request: {magic:#x}")

    body = await reader.readexactly(size)
    framing, body = body[:framing_size], body[framing_size:]
    return Request(
        opcode=opcode,
        opaque=opaque,
        cas=cas,
        extras=body[:extras_size],
        key=body[extras_size : extras_size + key_size],
        value=body[extras_size + key_size :],
        datatype=datatype,
        is_durable=_asks_for_durability(framing),
    )


def _asks_for_durability(framing: bytes) -> bool:
    position = 0
    while position < len(framing):
        kind, size = framing[position] >> 4, framing[position] & 0xF
        if kind == _DURABILITY:
            return True

        position += 1 + size

    return False


def split_collection(key: bytes) -> tuple[int, bytes]:
    """Return the id of the collection, which stands before the key as LEB128, and the key."""
    number = shift = 0
    for position, byte in enumerate(key):
        number |= (byte & 0x7F) << shift
        shift += 7
        if not byte & 0x80:
            return number, key[position + 1 :]

    raise Refusal(Status.INVALID)


def integer(data: bytes) -> int:
    return int.from_bytes(data, "big")
