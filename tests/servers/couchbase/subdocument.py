"""Operations on parts of documents and on their attributes, as the SDK's transactions use them."""

from __future__ import annotations

import json
import struct
import time
from collections.abc import Iterator
from copy import deepcopy
from dataclasses import dataclass, replace
from enum import IntEnum
from typing import Any

from tests.servers.couchbase.documents import JSON, Document, Documents
from tests.servers.couchbase.wire import Answer, Refusal, Request, Status, integer

_CREATE_PARENTS, _ATTRIBUTE, _EXPAND = 0x01, 0x04, 0x10
_MAKE, _ADD, _ACCESS_DELETED, _CREATE_AS_DELETED, _REVIVE = 0x01, 0x02, 0x04, 0x08, 0x10
_CASTAGNOLI = 0x82F63B78


class Operation(IntEnum):
    GET_BODY = 0x00
    SET_BODY = 0x01
    REMOVE_BODY = 0x04
    GET = 0xC5
    EXISTS = 0xC6
    ADD = 0xC7
    UPSERT = 0xC8
    REMOVE = 0xC9
    REPLACE = 0xCA
    BODY_FROM_ATTRIBUTE = 0xD3


@dataclass(frozen=True, slots=True, kw_only=True)
class Spec:
    operation: int
    flags: int
    path: str
    value: bytes = b""

    @property
    def is_attribute(self) -> bool:
        return bool(self.flags & _ATTRIBUTE)


def _specs(data: bytes, *, with_values: bool) -> Iterator[Spec]:
    header = struct.Struct(">BBHI" if with_values else ">BBH")
    position = 0
    while position < len(data):
        operation, flags, path_size, *sizes = header.unpack_from(data, position)
        start = position + header.size
        middle, position = start + path_size, start + path_size + sum(sizes)
        path = data[start:middle].decode()
        yield Spec(operation=operation, flags=flags, path=path, value=data[middle:position])


def look_up(documents: Documents, collection: int, key: bytes, request: Request) -> Answer:
    flags = request.extras[0] if request.extras else 0
    found = documents.find(collection, key, deleted=bool(flags & _ACCESS_DELETED))
    fields, failed = [], False
    for spec in _specs(request.value, with_values=False):
        try:
            status, value = Status.SUCCESS, _read(found, spec)
        except Refusal as refusal:
            status, value, failed = refusal.status, b"", True

        fields.append(struct.pack(">HI", status, len(value)) + value)

    status = Status.MULTI_PATH_FAILURE if failed else Status.SUCCESS
    if found.body is None:
        status = Status.MULTI_PATH_FAILURE_DELETED if failed else Status.SUCCESS_DELETED

    return Answer(status=status, value=b"".join(fields), cas=found.cas)


def _read(found: Document, spec: Spec) -> bytes:
    if spec.is_attribute and spec.path.startswith("$"):
        tree: Any = _virtual(found, spec.path.partition(".")[0])
    elif spec.is_attribute:
        tree = found.attributes
    elif found.body is None:
        raise Refusal(Status.PATH_NOT_FOUND)
    elif spec.operation == Operation.GET_BODY or not spec.path:
        return found.body
    else:
        tree = _parsed(found.body)

    value = _descend(tree, spec.path.split("."))
    return b"" if spec.operation == Operation.EXISTS else _dumped(value)


def _virtual(found: Document, name: str) -> dict[str, Any]:
    if name == "$vbucket":
        return {name: {"HLC": {"now": str(int(time.time())), "mode": "real"}}}

    if name != "$document":
        raise Refusal(Status.UNKNOWN_VIRTUAL)

    return {
        name: {
            "CAS": f"0x{found.cas:016x}",
            "revid": str(found.revision),
            "exptime": int(found.expires),
            "value_crc32c": _checksum(found.body or b""),
            "deleted": found.body is None,
            "flags": found.flags,
            "datatype": ["json"] if found.datatype & JSON else ["raw"],
        }
    }


def mutate(documents: Documents, collection: int, key: bytes, request: Request) -> Document:
    size = len(request.extras)
    flags = request.extras[-1] if size % 4 == 1 else 0
    user_flags = integer(request.extras[4:8]) if size >= 8 else None
    specs = list(_specs(request.value, with_values=True))

    def change(found: Document | None) -> Document:
        new = _base(found, flags)
        cas = documents.next_cas()
        for index, spec in enumerate(specs):
            try:
                _apply(new, spec, cas)
            except Refusal as refusal:
                value = struct.pack(">BH", index, refusal.status)
                raise Refusal(Status.MULTI_PATH_FAILURE, value) from None

        if user_flags is not None:
            new.flags = user_flags

        return new

    return documents.store(collection, key, request.cas, change)


def _base(found: Document | None, flags: int) -> Document:
    """Return a copy of the document to work on, or a new one."""
    alive = found is not None and found.body is not None
    if flags & _REVIVE and alive:
        raise Refusal(Status.CANNOT_REVIVE)

    if found is not None and (alive or flags & _ACCESS_DELETED):
        if flags & _ADD:
            raise Refusal(Status.EXISTS)

        return replace(found, attributes=deepcopy(found.attributes))

    if not flags & (_ADD | _MAKE):
        raise Refusal(Status.NOT_FOUND)

    return Document(body=None if flags & _CREATE_AS_DELETED else b"{}", datatype=JSON)


def _apply(new: Document, spec: Spec, cas: int) -> None:
    if spec.operation == Operation.BODY_FROM_ATTRIBUTE:
        new.body = _dumped(_descend(new.attributes, spec.path.split(".")))
        new.datatype = JSON
        return

    if spec.operation == Operation.SET_BODY:
        new.body = spec.value
        new.datatype = JSON if _is_json(spec.value) else 0
        return

    if spec.operation == Operation.REMOVE_BODY:
        new.body = None
        return

    root = new.attributes if spec.is_attribute else _parsed(new.body or b"")
    tree, (*parents, last) = root, spec.path.split(".")
    for name in parents:
        if name not in tree:
            if not spec.flags & _CREATE_PARENTS:
                raise Refusal(Status.PATH_NOT_FOUND)

            tree[name] = {}

        tree = tree[name]
        if not isinstance(tree, dict):
            raise Refusal(Status.PATH_MISMATCH)

    _change_member(tree, last, spec, cas, new)
    if not spec.is_attribute:
        new.body = _dumped(root)


def _change_member(tree: dict[str, Any], name: str, spec: Spec, cas: int, new: Document) -> None:
    if spec.operation == Operation.ADD and name in tree:
        raise Refusal(Status.PATH_EXISTS)

    if spec.operation in (Operation.REMOVE, Operation.REPLACE) and name not in tree:
        raise Refusal(Status.PATH_NOT_FOUND)

    if spec.operation == Operation.REMOVE:
        del tree[name]
        return

    if spec.operation not in (Operation.ADD, Operation.UPSERT, Operation.REPLACE):
        raise Refusal(Status.INVALID)

    value = json.loads(spec.value)
    tree[name] = _expanded(value, cas, new) if spec.flags & _EXPAND else value


def _expanded(macro: str, cas: int, new: Document) -> str:
    if macro == "${Mutation.CAS}":
        return "0x" + cas.to_bytes(8, "little").hex()

    if macro == "${Mutation.value_crc32c}":
        return _checksum(new.body or b"")

    raise Refusal(Status.UNKNOWN_MACRO)


def _descend(tree: Any, path: list[str]) -> Any:
    for name in path:
        if not isinstance(tree, dict) or name not in tree:
            raise Refusal(Status.PATH_NOT_FOUND)

        tree = tree[name]

    return tree


def _is_json(data: bytes) -> bool:
    try:
        json.loads(data)
    except ValueError:
        return False

    return True


def _parsed(body: bytes) -> Any:
    if not _is_json(body):
        raise Refusal(Status.DOCUMENT_NOT_JSON)

    return json.loads(body)


def _dumped(value: Any) -> bytes:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":")).encode()


def _table() -> Iterator[int]:
    for byte in range(256):
        remainder = byte
        for _ in range(8):
            remainder = remainder >> 1 ^ (_CASTAGNOLI if remainder & 1 else 0)

        yield remainder


_TABLE = tuple(_table())


def _checksum(data: bytes) -> str:
    """Return the CRC-32C of Castagnoli, which zlib does not have."""
    remainder = 0xFFFFFFFF
    for byte in data:
        remainder = remainder >> 8 ^ _TABLE[(remainder ^ byte) & 0xFF]

    return f"0x{remainder ^ 0xFFFFFFFF:08x}"
