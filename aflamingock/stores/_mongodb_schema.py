"""The collections, indexes and rights of an audit store in MongoDB."""

from __future__ import annotations

import json
from collections.abc import Sequence

from pymongo import IndexModel
from pymongo.errors import OperationFailure

from ..exceptions import AuditStoreIndexError
from ..targets._mongodb import error_code
from ._mongodb import AuditDatabase, RefusalError
from ._refusal import misfit

Keys = Sequence[tuple[str, int]]

_NAMESPACE_EXISTS = 48
_ROLE = "flamingockAudit"
# Entries are never changed; the lease and the issues are.
_ACTIONS = ("find", "insert", "createCollection", "createIndex", "listIndexes")


class Schema:
    """
    The three collections of a store.

    :param database: where they are, or shall be
    """

    def __init__(self, database: AuditDatabase, *, log: str, lock: str, issues: str) -> None:
        self._database = database
        self._log = log
        self._indexes: dict[str, Sequence[Keys]] = {
            log: (
                [("targetSystemId", 1), ("createdAt", -1)],
                [("author", 1), ("state", 1)],
            ),
            lock: (),
            issues: ([("createdAt", -1), ("status", 1)],),
        }

    async def missing(self) -> list[str]:
        """Return the commands of the shell that create what is missing."""
        names, indexes = await self._find_missing()
        return [
            *map(self._creation, names),
            *(
                f"{self._shell(name)}.createIndex({json.dumps(dict(keys))})"
                for name, lacking in indexes.items()
                for keys in lacking
            ),
        ]

    async def create(self) -> None:
        """
        Create what is missing; others may do so at the same time.

        :raises AuditStoreIndexError: if an index cannot be created
        """
        names, indexes = await self._find_missing()
        for name in names:
            await self._create_collection(name)

        try:
            for name, lacking in indexes.items():
                await self._create_indexes(name, lacking)
        except RefusalError as exc:
            commands = "\n".join(await self.missing())
            raise AuditStoreIndexError(
                f"Failed to create audit store indexes in database {self._database.name!r}. "
                f"Remove what is in the way, and create them by hand:\n{commands}"
            ) from exc.__cause__

    async def _find_missing(self) -> tuple[list[str], dict[str, list[Keys]]]:
        async with self._database.asking():
            existing = await self._database.list_names()

        names = [name for name in self._indexes if name not in existing]
        indexes = {}
        for name, wanted in self._indexes.items():
            found = await self._keys_in(name) if name in existing else []
            indexes[name] = [keys for keys in wanted if keys not in found]

        return names, {name: lacking for name, lacking in indexes.items() if lacking}

    async def _keys_in(self, name: str) -> list[Keys]:
        try:
            async with self._database.asking() as session:
                found = await self._database.collection(name).index_information(session=session)
        except RefusalError as exc:  # a view has no indexes
            place = f"database {self._database.name!r}"
            raise misfit(f'collection "{name}"', place, self._creation(name)) from exc.__cause__

        return [[(field, order) for field, order in index["key"]] for index in found.values()]

    async def _create_collection(self, name: str) -> None:
        async with self._database.asking(writes=True):
            try:
                await self._database.command("create", name, writeConcern={"w": "majority"})
            except OperationFailure as exc:
                if error_code(exc) != _NAMESPACE_EXISTS:
                    raise

    async def _create_indexes(self, name: str, indexes: Sequence[Keys]) -> None:
        models = [IndexModel(keys) for keys in indexes]
        async with self._database.asking(writes=True) as session:
            await self._database.collection(name).create_indexes(models, session=session)

    def _creation(self, name: str) -> str:
        return f"{self._shell()}.createCollection({json.dumps(name)})"

    def role(self) -> str:
        """Return the command of the shell that creates the role with the least privileges."""
        privileges = [
            *(
                self._privilege(name, *_ACTIONS, *(() if name == self._log else ("update",)))
                for name in self._indexes
            ),
            self._privilege("", "listCollections"),
        ]
        role = {"role": _ROLE, "privileges": privileges, "roles": []}
        return f"{self._shell()}.createRole({json.dumps(role, indent=2)})"

    def _privilege(self, collection: str, *actions: str) -> dict[str, object]:
        resource = {"db": self._database.name, "collection": collection}
        return {"resource": resource, "actions": actions}

    def _shell(self, collection: str | None = None) -> str:
        shown = f"db.getSiblingDB({json.dumps(self._database.name)})"
        return f"{shown}.getCollection({json.dumps(collection)})" if collection else shown
