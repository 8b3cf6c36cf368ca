"""
A stand-in for a schema registry and for the REST proxy of Kafka, in memory.

It is no broker: it knows the few routes of their HTTP interfaces that the changes use.
"""

from __future__ import annotations

from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route


async def subject(request: Request) -> JSONResponse:
    """Look a schema up, register it, or delete it."""
    schemas, name = request.app.state.schemas, request.path_params["name"]
    if request.method == "DELETE":
        return JSONResponse(schemas.pop(name, None))

    schema = (await request.json())["schema"]
    if request.url.path.endswith("/versions"):
        schemas[name] = schema

    return JSONResponse({"schema": schema}, 200 if schemas.get(name) == schema else 404)


async def new_topic(request: Request) -> JSONResponse:
    """Create a topic."""
    topic = await request.json()
    request.app.state.topics[topic["topic_name"]] = topic
    return JSONResponse(topic, 201)


async def topic(request: Request) -> JSONResponse:
    """Show a topic, or delete it."""
    topics, name = request.app.state.topics, request.path_params["name"]
    found = topics.pop(name, None) if request.method == "DELETE" else topics.get(name)
    return JSONResponse(found, 200 if found else 404)


app = Starlette(
    routes=[
        Route("/subjects/{name}", subject, methods=["POST", "DELETE"]),
        Route("/subjects/{name}/versions", subject, methods=["POST"]),
        Route("/v3/clusters/orders/topics", new_topic, methods=["POST"]),
        Route("/v3/clusters/orders/topics/{name}", topic, methods=["GET", "DELETE"]),
    ]
)
app.state.schemas, app.state.topics = {}, {}
