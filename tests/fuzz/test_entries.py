"""Whatever a change raises and whatever its metadata hold, its entries are written and read."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import anyio
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from aflamingock import AuditEntry, AuditState, ChangeFailedError, Flamingock, change
from aflamingock._payload import storable_mapping, storable_text
from aflamingock.abc import AuditStore
from aflamingock.stores.memory import MemoryAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from tests.processes.kit import check_log

TEXTS = st.text(st.characters(exclude_categories=()), max_size=300)
SCALARS = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | TEXTS
    | st.binary(max_size=50)
    | st.datetimes()
    | st.decimals()
    | st.uuids()
)
ANYTHING = st.recursive(
    SCALARS,
    lambda inner: (
        st.lists(inner, max_size=4) | st.dictionaries(TEXTS | st.integers(), inner, max_size=4)
    ),
    max_leaves=20,
)
METADATA = st.dictionaries(TEXTS, ANYTHING, max_size=5)

Store = Callable[[], AuditStore[Any]]


@pytest.fixture(params=["memory", "sqlite"])
def make_store(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> Store:
    def make() -> AuditStore[Any]:
        if request.param == "memory":
            return MemoryAuditStore()

        return SQLiteAuditStore(tmp_path_factory.mktemp("log") / "audit.db")

    return make


async def log_of_failure(store: AuditStore[Any], text: str, metadata: Any) -> list[AuditEntry]:
    @change(id="a", author="tests", order="1")
    class Failing:
        async def execute(self) -> None:
            raise ValueError(text)

    flamingock = Flamingock(changes=[Failing], audit_store=store, metadata=metadata)
    async with flamingock:
        with pytest.raises(ChangeFailedError):
            await flamingock.run()

        return [entry async for entry in flamingock.audit.entries()]


@settings(
    max_examples=60,
    deadline=None,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(text=TEXTS, metadata=METADATA)
def test_a_failure_is_recorded_whatever_it_says(
    make_store: Store, text: str, metadata: dict[str, Any]
) -> None:
    entries = anyio.run(log_of_failure, make_store(), text, storable_mapping(metadata))

    check_log(entries)
    assert [entry.state for entry in entries] == [AuditState.STARTED, AuditState.FAILED]
    assert "ValueError" in (entries[-1].error_trace or "")
    assert entries[-1].metadata == storable_mapping(metadata)


@settings(max_examples=300, deadline=None)
@given(text=TEXTS, metadata=METADATA, author=TEXTS)
def test_an_entry_survives_its_stored_form(
    text: str, metadata: dict[str, Any], author: str
) -> None:
    entry = AuditEntry(
        service="shop",
        state=AuditState.FAILED,
        execution_id="run",
        author=storable_text(author, 100),
        error_trace=storable_text(text, 20_000),
        metadata=storable_mapping(metadata),
    ).sealed(sequence=1, previous="", epoch=1)

    document = json.loads(json.dumps(entry.to_document()))

    assert AuditEntry.from_document(document) == entry
    assert AuditEntry.from_document(document).compute_digest("") == entry.digest


def test_a_file_name_of_any_bytes_is_told(tmp_path: Path) -> None:
    path = tmp_path / "_0001__\udcff.py"
    try:
        path.write_text("raise ValueError('x')\n")
    except (OSError, UnicodeError) as exc:
        pytest.skip(f"this file system has no such names: {exc}")

    flamingock = Flamingock(changes=tmp_path, audit_store=MemoryAuditStore())
    with pytest.raises(Exception, match="raised ValueError") as error:
        anyio.run(flamingock.run)

    assert str(error.value).encode("utf-8", "backslashreplace")
