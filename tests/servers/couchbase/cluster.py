"""A cluster of one node: buckets, scopes, collections, users, and what goes wrong on purpose."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from tests.servers.couchbase.documents import Documents
from tests.servers.couchbase.wire import Opcode, Refusal, Status

_PARTITIONS = 64
_CAPABILITIES = (
    *("collections", "durableWrite", "tombstonedUserXAttrs", "couchapi", "dcp", "cbhello"),
    *("touch", "cccp", "xdcrCheckpointing", "nodesExt", "xattr", "subdoc.ReviveDocument"),
    *("subdoc.ReplaceBodyWithXattr", "preserveExpiry"),
)


@dataclass(slots=True)
class Fault:
    """
    What goes wrong with the next requests that fit.

    :ivar key: a part of the key
    :ivar how: ``lose`` the answer, ``drop`` the request, ``slow`` or ``refuse``
    :ivar skip: how many requests pass before
    """

    operation: str
    how: str
    key: str = ""
    times: int = 1
    skip: int = 0
    seconds: float = 0.0
    status: str = "TEMPORARY_FAILURE"

    def fits(self, operation: str, key: str) -> bool:
        return self.times > 0 and self.operation == operation and self.key in key


@dataclass(slots=True)
class Bucket:
    """
    What a bucket has.

    :ivar lifetimes: the longest life of documents, by the id of the collection; only told
    """

    documents: Documents = field(default_factory=Documents)
    scopes: dict[str, dict[str, int]] = field(default_factory=lambda: {"_default": {"_default": 0}})
    identities: dict[str, int] = field(default_factory=lambda: {"_default": 0})
    lifetimes: dict[int, int] = field(default_factory=dict)
    changes: int = 1
    last: int = 7

    def next_id(self) -> int:
        self.last += 1
        self.changes += 1
        return self.last

    def collection(self, path: str) -> int:
        scope, _, name = path.partition(".")
        scope, name = scope or "_default", name or "_default"
        if scope not in self.scopes:
            raise Refusal(Status.UNKNOWN_SCOPE)

        if name not in self.scopes[scope]:
            raise Refusal(Status.UNKNOWN_COLLECTION)

        return self.scopes[scope][name]

    def require(self, collection: int) -> None:
        if not any(collection in scope.values() for scope in self.scopes.values()):
            raise Refusal(Status.UNKNOWN_COLLECTION)

    def manifest(self) -> dict[str, Any]:
        return {
            "uid": f"{self.changes:x}",
            "scopes": [
                {
                    "name": scope,
                    "uid": f"{self.identities[scope]:x}",
                    "collections": [
                        {
                            "name": name,
                            "uid": f"{number:x}",
                            "maxTTL": self.lifetimes.get(number, 0),
                            "history": False,
                        }
                        for name, number in collections.items()
                    ],
                }
                for scope, collections in self.scopes.items()
            ],
        }


class Cluster:
    """
    What the node keeps.

    :ivar calls: how often each operation was asked for, on which key
    :ivar addresses: the alternate addresses of the node, by the name of the network
    """

    def __init__(self) -> None:
        self.buckets: dict[str, Bucket] = {}
        self.passwords = {"Administrator": "pass:w/rd@1", "reader": "reader", "writer": "writer"}
        self.faults: list[Fault] = []
        self.calls: list[tuple[str, str, bool]] = []
        self.addresses: dict[str, dict[str, Any]] = {}
        self.data_port = 0
        self.management_port = 0

    def bucket(self, name: str) -> Bucket:
        """Return a bucket; those whose name begins with ``test`` come into being when asked."""
        if name.startswith("test"):
            return self.buckets.setdefault(name, Bucket())

        raise Refusal(Status.NO_ACCESS)

    def may_write(self, user: str | None) -> bool:
        return user in ("Administrator", "writer")

    def may_manage(self, user: str, *, look: bool) -> bool:
        return user == "Administrator" or (look and user == "reader")

    def note(self, opcode: Opcode, key: str, *, durable: bool) -> Fault | None:
        """Count a request, and return what is to go wrong with it."""
        self.calls.append((opcode.name, key, durable))
        for fault in self.faults:
            if fault.fits(opcode.name, key):
                if fault.skip:
                    fault.skip -= 1
                    continue

                fault.times -= 1
                return fault

        return None

    def counts(self) -> Counter[str]:
        return Counter(name for name, _, _ in self.calls)

    def configuration(self, bucket: str | None) -> dict[str, Any]:
        node = f"127.0.0.1:{self.data_port}"
        services = {"kv": self.data_port, "mgmt": self.management_port}
        itself = {
            "services": services,
            "thisNode": True,
            "hostname": "127.0.0.1",
            "alternateAddresses": self.addresses,
        }
        configuration: dict[str, Any] = {
            "rev": 1,
            "revEpoch": 1,
            "nodesExt": [itself],
            "clusterCapabilities": {},
        }
        if bucket is None:
            return configuration

        return configuration | {
            "name": bucket,
            "uuid": bucket,
            "nodeLocator": "vbucket",
            "nodes": [{"hostname": node, "ports": {"direct": self.data_port}}],
            "bucketCapabilities": list(_CAPABILITIES),
            "collectionsManifestUid": f"{self.bucket(bucket).changes:x}",
            "vBucketServerMap": {
                "hashAlgorithm": "CRC",
                "numReplicas": 0,
                "serverList": [node],
                "vBucketMap": [[0]] * _PARTITIONS,
            },
        }
