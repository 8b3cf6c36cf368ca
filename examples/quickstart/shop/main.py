"""The service: it serves when its changes are applied."""

from __future__ import annotations

import os
from pathlib import Path

import aiosqlite
from fastapi import FastAPI, Request
from fastapi.responses import PlainTextResponse

from aflamingock import Flamingock
from aflamingock.asgi import health_routes, lifespan
from aflamingock.stores.sqlite import SQLiteAuditStore
from aflamingock.targets.sqlite import SQLiteTargetSystem

FOLDER = Path(os.environ.get("SHOP_FOLDER", "."))

shop_db = SQLiteTargetSystem("shop-db", FOLDER / "shop.db")
flamingock = Flamingock(
    changes="shop.changes",
    audit_store=SQLiteAuditStore.from_target_system(shop_db),
    target_systems=[shop_db],
    dependencies={"folder": FOLDER},
    service="shop",
)
app = FastAPI(lifespan=lifespan(flamingock), routes=health_routes(flamingock))


@app.get("/products")
async def products() -> list[dict[str, object]]:
    """Return what the shop sells."""
    async with aiosqlite.connect(FOLDER / "shop.db") as db:
        rows = await db.execute_fetchall("SELECT name, price_in_cents FROM products ORDER BY id")
        return [{"name": name, "priceInCents": price} for name, price in rows]


@app.get("/report", response_class=PlainTextResponse)
async def report(request: Request) -> str:
    """Return what the start of this process did."""
    return str(request.state.flamingock_report)
