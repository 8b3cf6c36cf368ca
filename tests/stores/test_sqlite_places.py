"""Where the files of the SQLite store may lie, and how they are told apart."""

from __future__ import annotations

import os

import anyio
import pytest
from anyio.to_thread import run_sync

from aflamingock.exceptions import (
    AuditStoreError,
    ConfigurationError,
)
from aflamingock.stores.sql import SQLAuditStore
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets import _sqlite_place as place
from aflamingock.targets.plain import NonTransactionalTargetSystem
from aflamingock.targets.sqlite import SQLiteTargetSystem
from tests.servers.sql import excuse_drivers
from tests.stores.kit import ENTRIES, FIRST, SECOND, last_numbers, names_in


def sql_store(path) -> SQLAuditStore:
    return SQLAuditStore.from_url(f"sqlite:///{path}")


@pytest.mark.parametrize(
    "name",
    ["a b.db", "100%.db", "a%20b.db", "q?mode=memory", "a#b.db", "ü🦩.db", "a'b\"c.db", "\n"],
)
async def test_odd_names_of_files_are_names(tmp_path, name):
    async with SQLiteAuditStore(str(tmp_path / name)) as store:
        await store.create()
        await store.append(ENTRIES)

    found = await run_sync(names_in, tmp_path)
    assert found == sorted([name, f"{name}.lease"])


async def test_a_name_that_is_no_unicode_is_a_name(tmp_path):
    name = os.fsdecode(b"caf\xe9.db")
    try:
        await anyio.Path(tmp_path / "caf\udce9").write_text("")
    except OSError:
        pytest.skip("the file system takes Unicode only")

    async with SQLiteAuditStore(tmp_path / name) as store:
        await store.create()
        assert await anyio.Path(tmp_path / name).exists()


async def test_a_relative_path_stays_where_it_was_when_opened(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    async with SQLiteAuditStore("audit.db") as store:
        other = tmp_path / "other"
        await anyio.Path(other).mkdir()
        await run_sync(monkeypatch.chdir, other)
        await store.create()

    assert await anyio.Path(tmp_path / "audit.db").exists()


async def test_a_link_leads_to_the_same_log_and_lease(tmp_path, path):
    link = tmp_path / "link.db"
    await anyio.Path(link).symlink_to(path)
    async with SQLiteAuditStore(link) as one, SQLiteAuditStore(path) as other:
        await one.create()
        await one.swap_record(None, FIRST)
        await one.append(ENTRIES)

        assert not await other.swap_record(None, SECOND)
        assert await last_numbers(other) == [3, 2, 1]


async def test_a_transaction_is_shared_with_a_target_in_the_same_file(tmp_path, path):
    link = tmp_path / "link.db"
    await anyio.Path(link).symlink_to(path)
    target = SQLiteTargetSystem("db", path)
    linked = SQLiteTargetSystem("db", link)
    other = SQLiteTargetSystem("db", tmp_path / "other.db")
    async with SQLiteAuditStore(path) as store, target, linked, other:
        assert store.shares(target)
        assert store.shares(linked)
        assert SQLiteAuditStore.from_target_system(linked).shares(linked)
        assert not store.shares(other)
        assert not store.shares(NonTransactionalTargetSystem("plain"))


def test_a_transaction_is_shared_before_anything_is_open(tmp_path, path):
    link = tmp_path / "link.db"
    link.symlink_to(path)

    assert SQLiteAuditStore(link).shares(SQLiteTargetSystem("db", path))
    assert not SQLiteAuditStore(link).shares(SQLiteTargetSystem("db", tmp_path / "other.db"))


@pytest.mark.parametrize("bad", ["", None, ":memory:", "file:x.db", "a\0b"])
def test_what_is_no_path_of_a_file_is_refused(bad):
    with pytest.raises(ConfigurationError):
        SQLiteAuditStore(bad)


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("/mnt/share/audit.db", "nfs4"),
        ("/mnt/share/local/audit.db", None),
        ("/mnt/with blank/audit.db", "cifs"),
        ("/mnt/shared/audit.db", None),
        ("/mnt/host/audit.db", None),
        ("relative", None),
    ],
)
def test_a_network_file_system_is_told_by_the_mounts(tmp_path, path, kind):
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "overlay / overlay rw 0 0\n"
        "server:/x /mnt/share nfs4 rw 0 0\n"
        "/dev/sda1 /mnt/share/local ext4 rw 0 0\n"
        "//server/x /mnt/with\\040blank cifs rw 0 0\n"
        "host /mnt/host 9p rw 0 0\n"
    )

    assert place._network_file_system(path, str(mounts)) == kind


def test_where_no_mounts_are_known_nothing_is_refused(tmp_path):
    assert place._network_file_system("/x", str(tmp_path / "missing")) is None


@pytest.mark.parametrize("kind", [SQLiteAuditStore, sql_store])
async def test_a_network_file_system_is_refused(kind, path, monkeypatch, blockbuster):
    excuse_drivers(blockbuster)
    monkeypatch.setattr(place, "_network_file_system", {str(path): "nfs"}.get)
    async with kind(path) as store:
        with pytest.raises(AuditStoreError, match=r"audit\.db lies on a network file system"):
            await store.create()

    assert await run_sync(names_in, path.parent) == []
