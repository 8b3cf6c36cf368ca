"""The log of the Couchbase store: its end, and the segments before it."""

from __future__ import annotations

import pytest
from couchbase.transcoder import RawBinaryTranscoder, RawJSONTranscoder

from aflamingock.exceptions import AuditStoreError, UnknownOutcomeError
from aflamingock.stores._couchbase_log import SEGMENT
from aflamingock.testing._log import chain
from tests.servers.couchbase.fixtures import (
    BUCKET,
    cluster,
    couchbase_server,
    couchbase_url,
    impatient,
    scope_name,
)
from tests.stores.couchbase import TAIL, make, numbers, store
from tests.stores.kit import ENTRIES, FIRST

__all__ = [
    "cluster",
    "couchbase_server",
    "couchbase_url",
    "impatient",
    "make",
    "scope_name",
    "store",
]


@pytest.fixture
def log(cluster, store, scope_name):
    return cluster.bucket(BUCKET).scope(scope_name).collection("flamingockAuditLog")


async def test_a_long_log_is_sealed_in_segments(couchbase_server, store, log):
    entries = chain(5 * SEGMENT + 3)
    for entry in entries:
        await store.append([entry])

    tail = (await log.get(TAIL)).content_as[dict]
    assert SEGMENT <= len(tail["entries"]) < 2 * SEGMENT + 1
    assert tail["sealed"] * SEGMENT + len(tail["entries"]) == len(entries)
    assert len((await log.get("log::shop::1")).content_as[dict]["entries"]) == SEGMENT
    for after in (0, 1, SEGMENT - 1, SEGMENT, SEGMENT + 1, len(entries) - 1):
        assert await numbers(store, after=after) == list(range(after + 1, len(entries) + 1))

    couchbase_server.forget()
    assert len(await store.last("shop", SEGMENT)) == SEGMENT
    assert [operation for operation, _, _ in couchbase_server.document_calls()] == ["LOOKUP_IN"]
    assert len(await store.last("shop", 999)) == len(entries)


async def test_who_died_after_sealing_leaves_no_trace(couchbase_server, store, make, impatient):
    entries = chain(3 * SEGMENT)
    for start in range(0, 2 * SEGMENT, SEGMENT):
        await store.append(entries[start : start + SEGMENT])

    with (
        couchbase_server.failing("REPLACE", "drop", times=99),
        pytest.raises(UnknownOutcomeError),
    ):
        await store.append([chain(3 * SEGMENT, author="dead")[2 * SEGMENT]])

    async with make() as other:
        assert await numbers(other) == list(range(1, 2 * SEGMENT + 1))
        await other.append(entries[2 * SEGMENT :])
        assert [entry async for entry in other.entries("shop")] == entries


async def test_a_segment_that_has_disappeared_is_told(store, log):
    entries = chain(3 * SEGMENT)
    for start in range(0, len(entries), SEGMENT):
        await store.append(entries[start : start + SEGMENT])

    await log.remove("log::shop::1")
    with pytest.raises(AuditStoreError, match="Segment 1 .* 'shop' has disappeared"):
        await numbers(store)


async def test_an_entry_whose_answer_was_lost_is_recognised(store, make):
    await store.append(ENTRIES[:2])
    async with make() as other:
        await other.append(ENTRIES)
        assert await numbers(other) == [1, 2, 3]


DAMAGES = {
    "binary": (b"\x00\x01", RawBinaryTranscoder()),
    "text": (b'"tail"', RawJSONTranscoder()),
    "no JSON": (b"{", RawJSONTranscoder()),
    "list": (b"[1]", RawJSONTranscoder()),
    "empty": (b"{}", RawJSONTranscoder()),
    "odd": (b'{"sealed": 0, "entries": [1], "token": "a", "value": 1}', RawJSONTranscoder()),
    "without an id": (b'{"sealed": 0, "entries": [{"sequence": 1}]}', RawJSONTranscoder()),
}


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_end_of_the_log_is_told(store, log, damage):
    await store.append(ENTRIES[:1])
    body, transcoder = DAMAGES[damage]
    await log.upsert(TAIL, body, transcoder=transcoder)
    with pytest.raises(AuditStoreError, match=f"'{TAIL}' in .* is damaged"):
        await store.last("shop", 8)

    with pytest.raises(AuditStoreError, match=f"'{TAIL}' in .* is damaged"):
        await numbers(store)

    with pytest.raises(AuditStoreError, match=f"'{TAIL}' in .* is damaged"):
        await store.append(ENTRIES[1:])


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_segment_is_told(store, log, damage):
    for entry in chain(3 * SEGMENT):
        await store.append([entry])

    body, transcoder = DAMAGES[damage]
    await log.upsert("log::shop::1", body, transcoder=transcoder)
    with pytest.raises(AuditStoreError, match="'log::shop::1' in .* is damaged"):
        await numbers(store)


@pytest.mark.parametrize("damage", DAMAGES)
async def test_a_damaged_record_is_told(cluster, store, scope_name, damage):
    body, transcoder = DAMAGES[damage]
    records = cluster.bucket(BUCKET).scope(scope_name).collection("flamingockLock")
    await records.upsert(f"record::{FIRST.key}", body, transcoder=transcoder)
    with pytest.raises(AuditStoreError, match=f"'record::{FIRST.key}' in .* is damaged"):
        await store.read_record(FIRST.key)
