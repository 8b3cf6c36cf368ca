"""The data service: the key-value protocol on a connection."""

from __future__ import annotations

import asyncio
import json
import struct
from collections.abc import Callable
from contextlib import suppress

from tests.servers.couchbase.cluster import Bucket, Cluster, Fault
from tests.servers.couchbase.documents import Document, expiry
from tests.servers.couchbase.login import MECHANISMS, Login
from tests.servers.couchbase.subdocument import look_up, mutate
from tests.servers.couchbase.wire import (
    Answer,
    Opcode,
    Refusal,
    Request,
    Status,
    integer,
    read_request,
    split_collection,
)

# What the SDK is told that this server can, of what it asks for: no compression, for example.
_FEATURES = {0x03, 0x04, 0x06, 0x07, 0x08, 0x0B, 0x10, 0x11, 0x12, 0x14, 0x15, 0x17, 0x18, 0x19}
_WRITES = {
    Opcode.UPSERT: "upsert",
    Opcode.INSERT: "insert",
    Opcode.REPLACE: "replace",
}
_CHANGES = {*_WRITES, Opcode.REMOVE, Opcode.MUTATE_IN, Opcode.GET_AND_LOCK, Opcode.TOUCH}
_READS = {Opcode.GET, Opcode.LOOKUP_IN, Opcode.GET_META, Opcode.GET_AND_TOUCH, Opcode.UNLOCK}
_PARTITION_ID = 1


class Connection:
    """One client."""

    def __init__(
        self, cluster: Cluster, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._cluster = cluster
        self._reader = reader
        self._writer = writer
        self._login = Login(cluster.passwords)
        self._bucket_name: str | None = None
        self._changes = 0
        self._handlers: dict[int, Callable[[Request], Answer]] = {
            Opcode.HELLO: self._hello,
            Opcode.SASL_LIST: lambda _: Answer(value=MECHANISMS),
            Opcode.SASL_AUTH: self._begin_login,
            Opcode.SASL_STEP: self._continue_login,
            Opcode.GET_ERROR_MAP: self._error_map,
            Opcode.SELECT_BUCKET: self._select,
            Opcode.GET_CONFIG: self._configuration,
            Opcode.GET_MANIFEST: self._manifest,
            Opcode.GET_COLLECTION_ID: self._collection_id,
            Opcode.NOOP: lambda _: Answer(),
            Opcode.GET: self._get,
            Opcode.GET_META: self._describe,
            Opcode.GET_AND_LOCK: self._get_and_lock,
            Opcode.UNLOCK: self._unlock,
            Opcode.GET_AND_TOUCH: self._touch,
            Opcode.TOUCH: self._touch,
            Opcode.REMOVE: self._remove,
            Opcode.LOOKUP_IN: self._look_up,
            Opcode.MUTATE_IN: self._mutate,
            **dict.fromkeys(_WRITES, self._write),
        }

    async def serve(self) -> None:
        with suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                request = await read_request(self._reader)
                answer, fault = self._answer(request)
                if fault is not None and fault.how in ("lose", "drop"):
                    continue

                if fault is not None and fault.how == "slow":
                    await asyncio.sleep(fault.seconds)

                self._writer.write(answer.encode(request))
                await self._writer.drain()

        self._writer.close()

    def _answer(self, request: Request) -> tuple[Answer, Fault | None]:
        if request.opcode not in self._handlers:
            return Answer(status=Status.UNKNOWN_COMMAND), None

        opcode = Opcode(request.opcode)
        key = request.key.decode(errors="replace")
        if opcode in _CHANGES or opcode in _READS:
            key = split_collection(request.key)[1].decode(errors="replace")

        fault = self._cluster.note(opcode, key, durable=request.is_durable)
        try:
            if fault is not None and fault.how == "drop":
                return Answer(), fault

            if fault is not None and fault.how == "refuse":
                raise Refusal(Status[fault.status])

            if opcode in _CHANGES and not self._cluster.may_write(self._login.user):
                raise Refusal(Status.NO_ACCESS)

            return self._handlers[opcode](request), fault
        except Refusal as refusal:
            return Answer(status=refusal.status, value=refusal.value), fault

    def _hello(self, request: Request) -> Answer:
        asked = [integer(request.value[n : n + 2]) for n in range(0, len(request.value), 2)]
        granted = [feature for feature in asked if feature in _FEATURES]
        return Answer(value=struct.pack(f">{len(granted)}H", *granted))

    def _begin_login(self, request: Request) -> Answer:
        status, value = self._login.begin(request.key.decode(), request.value)
        return Answer(status=status, value=value)

    def _continue_login(self, request: Request) -> Answer:
        status, value = self._login.go_on(request.value)
        return Answer(status=status, value=value)

    def _error_map(self, request: Request) -> Answer:
        return Answer(value=json.dumps({"version": 2, "revision": 1, "errors": {}}).encode())

    def _select(self, request: Request) -> Answer:
        if self._login.user is None:
            raise Refusal(Status.NO_ACCESS)

        self._cluster.bucket(request.key.decode())
        self._bucket_name = request.key.decode()
        return Answer()

    def _configuration(self, request: Request) -> Answer:
        configuration = self._cluster.configuration(self._bucket_name)
        return Answer(value=json.dumps(configuration).encode())

    def _manifest(self, request: Request) -> Answer:
        return Answer(value=json.dumps(self._bucket.manifest()).encode())

    def _collection_id(self, request: Request) -> Answer:
        number = self._bucket.collection((request.value or request.key).decode())
        return Answer(extras=struct.pack(">QI", self._bucket.changes, number))

    @property
    def _bucket(self) -> Bucket:
        if self._bucket_name is None:
            raise Refusal(Status.NO_BUCKET)

        return self._cluster.bucket(self._bucket_name)

    def _place(self, request: Request) -> tuple[int, bytes]:
        collection, key = split_collection(request.key)
        self._bucket.require(collection)
        return collection, key

    def _get(self, request: Request) -> Answer:
        return _content(self._bucket.documents.find(*self._place(request)))

    def _describe(self, request: Request) -> Answer:
        found = self._bucket.documents.find(*self._place(request))
        extras = (0, found.flags, int(found.expires), found.revision, found.datatype)
        return Answer(extras=struct.pack(">IIIQB", *extras), cas=found.cas)

    def _get_and_lock(self, request: Request) -> Answer:
        seconds = integer(request.extras)
        return _content(self._bucket.documents.lock(*self._place(request), seconds))

    def _unlock(self, request: Request) -> Answer:
        self._bucket.documents.unlock(*self._place(request), request.cas)
        return Answer()

    def _touch(self, request: Request) -> Answer:
        found = self._bucket.documents.find(*self._place(request))
        found.expires = expiry(integer(request.extras))
        return _content(found)

    def _write(self, request: Request) -> Answer:
        flags, seconds = struct.unpack(">II", request.extras)
        how = _WRITES[Opcode(request.opcode)]
        new = Document(
            body=request.value, flags=flags, datatype=request.datatype, expires=expiry(seconds)
        )
        place = self._place(request)
        return self._changed(self._bucket.documents.write(*place, request.cas, new, how=how))

    def _remove(self, request: Request) -> Answer:
        return self._changed(self._bucket.documents.remove(*self._place(request), request.cas))

    def _look_up(self, request: Request) -> Answer:
        return look_up(self._bucket.documents, *self._place(request), request)

    def _mutate(self, request: Request) -> Answer:
        return self._changed(mutate(self._bucket.documents, *self._place(request), request))

    def _changed(self, new: Document) -> Answer:
        self._changes += 1
        return Answer(cas=new.cas, extras=struct.pack(">QQ", _PARTITION_ID, self._changes))


def _content(found: Document) -> Answer:
    return Answer(
        value=found.body or b"",
        extras=struct.pack(">I", found.flags),
        cas=found.cas,
        datatype=found.datatype,
    )
