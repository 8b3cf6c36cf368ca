"""The Couchbase store passes the suite, and what is special about it."""

from __future__ import annotations

import pytest

from aflamingock.stores.couchbase import CouchbaseAuditStore
from aflamingock.testing import AuditStoreSuite
from tests.servers.couchbase.fixtures import (
    BUCKET,
    cluster,
    couchbase_server,
    couchbase_url,
    scope_name,
)

__all__ = ["cluster", "couchbase_server", "couchbase_url", "scope_name"]


class TestCouchbaseAuditStore(AuditStoreSuite):
    @pytest.fixture
    def make_store(self, cluster, scope_name):
        return lambda: CouchbaseAuditStore(cluster, BUCKET, scope_name=scope_name)
