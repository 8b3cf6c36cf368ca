"""The service: it serves when its changes are applied."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Mapping
from contextlib import asynccontextmanager
from typing import Any

from fastapi import FastAPI
from pymongo import AsyncMongoClient

from aflamingock import Flamingock
from aflamingock.asgi import health_routes, lifespan
from aflamingock.stores.mongodb import MongoDBAuditStore
from aflamingock.targets.mongodb import MongoDBTargetSystem

MONGODB_URL = os.environ.get("MONGODB_URL", "mongodb://localhost:27017")

client: AsyncMongoClient = AsyncMongoClient(MONGODB_URL)
db = client.get_default_database("catalog")

catalog_db = MongoDBTargetSystem("catalog-db", client, db.name)
flamingock = Flamingock(
    changes="catalog.changes",
    audit_store=MongoDBAuditStore.from_target_system(catalog_db),
    target_systems=[catalog_db],
    service="catalog",
)


@asynccontextmanager
async def serving(app: FastAPI) -> AsyncIterator[Mapping[str, Any]]:
    """Apply the changes, serve, and close the client, which is ours, last."""
    async with client, lifespan(flamingock)(app) as state:
        yield state


app = FastAPI(lifespan=serving, routes=health_routes(flamingock))


@app.get("/products")
async def products() -> list[dict[str, Any]]:
    """Return what the catalogue offers."""
    return await db.products.find({}, {"_id": False}).sort("sku").to_list()
