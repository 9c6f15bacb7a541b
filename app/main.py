"""The HTTP application: routes, errors, limits, the relay, and the page at / that another folder brings."""

import asyncio
import contextlib
from collections.abc import AsyncIterator

from fastapi import FastAPI
from starlette.routing import Match, Mount
from starlette.types import ASGIApp, Lifespan, Receive, Scope, Send

from app import errors, openai_errors
from app.relay import relay
from app.routes import (
    ask,
    collections,
    documents,
    jobs,
    openai,
    openai_vectors,
    ops,
    schedules,
    search,
)
from app.security import SameSite
from app.served import Served, embedder_name, reranker_name
from app.state import State
from app.upkeep import upkeep
from app.uploads import BodyLimit
from pipeline.errors import RagError

API_PREFIXES = (
    "/documents",
    "/search",
    "/ask",
    "/jobs",
    "/schedules",
    "/collections",
    "/feedback",
    "/v1",
    "/health",
    "/metrics",
    "/docs",
    "/openapi.json",
)
"""Paths under these are the API's: an unknown one is a problem, never the page."""


def create_app(state: State, *, page: ASGIApp | None = None) -> FastAPI:
    """The API on these services, with `page` for every path that is not the API's."""
    services = state.services
    settings = services.core.settings

    @contextlib.asynccontextmanager
    async def lifespan(_app: FastAPI) -> AsyncIterator[None]:
        loop = asyncio.create_task(
            relay(
                services.core.jobs,
                state.queue,
                schedules=services.core.schedules,
                watchdog=state.watchdog,
            )
        )
        index = asyncio.create_task(
            upkeep(services.core.database, services.core.folders, services.recent)
        )
        yield
        for each in (loop, index):
            each.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await each
        state.pictures.close()
        with contextlib.suppress(RagError):  # a sample of what was asked, which may lack the last
            await asyncio.to_thread(services.recent.write)
        await services.stop()

    app = routed(lifespan)
    app.state.zhinao = state
    app.state.served = _served(state)
    errors.install(app)
    openai_errors.install(app)
    app.add_middleware(BodyLimit, most_mib=settings.max_upload_mb)
    app.add_middleware(SameSite, listening=settings.host)  # the last one added looks first
    if page is not None:
        app.mount("/", _BehindApi(app, page))
    return app


def _served(state: State) -> Served:
    services = state.services
    settings = services.core.settings
    return Served(
        embedder=services.embedder,
        embedder_name=embedder_name(settings.embedder),
        reranker=services.reranker,
        reranker_name=reranker_name(settings.reranker),
        chat=services.chat,
        answerer=services.answerer,
        collections=lambda: [view.name for view in services.core.catalog.collections()],
    )


def routed(lifespan: Lifespan[FastAPI] | None = None) -> FastAPI:
    """The routes alone: enough for the description of the API (docs/openapi.json)."""
    app = FastAPI(
        title="Zhinao RAG",
        version="0.1.0",
        summary="Document search and question answering with exact citations",
        lifespan=lifespan,
        redoc_url=None,
    )
    for routes in (
        documents,
        search,
        ask,
        jobs,
        schedules,
        collections,
        openai,
        openai_vectors,
        ops,
    ):
        app.include_router(routes.router)
    return app


class _BehindApi:
    """Gives the page what is not the API's."""

    def __init__(self, app: FastAPI, page: ASGIApp) -> None:
        self._app = app
        self._page = page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"]
        under_api = any(path == prefix or path.startswith(f"{prefix}/") for prefix in API_PREFIXES)
        if scope["type"] == "http" and under_api:
            known = any(
                route.matches(scope)[0] is not Match.NONE
                for route in self._app.routes
                if not isinstance(route, Mount)
            )
            unknown = errors.unknown(scope["method"], path, known=known)
            await openai_errors.shaped(path, unknown)(scope, receive, send)
            return
        await self._page(scope, receive, send)
