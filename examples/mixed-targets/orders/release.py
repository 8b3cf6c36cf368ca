"""What a release of the order service touches, and where the log of it is kept."""

from __future__ import annotations

import os

import aioboto3
import httpx

from aflamingock import Flamingock
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.plain import NonTransactionalTargetSystem
from aflamingock.targets.sqlite import SQLiteTargetSystem

REGISTRY_URL = os.environ.get("SCHEMA_REGISTRY_URL", "http://localhost:8081")
KAFKA_URL = os.environ.get("KAFKA_REST_URL", "http://localhost:8082/v3/clusters/orders")

users = SQLiteTargetSystem("users", "users.db")
invoices = NonTransactionalTargetSystem("invoices", aws=aioboto3.Session())
schemas = NonTransactionalTargetSystem("schemas", http=httpx.AsyncClient(base_url=REGISTRY_URL))
kafka = NonTransactionalTargetSystem("kafka", http=httpx.AsyncClient(base_url=KAFKA_URL))

flamingock = Flamingock(
    changes="orders.changes",
    audit_store=SQLiteAuditStore.from_target_system(users),
    target_systems=[users, invoices, schemas, kafka],
    service="orders",
)
