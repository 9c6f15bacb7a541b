"""The interface as an ASGI application: beside the API in its process, or alone in one of its own."""

import asyncio
import atexit
import os
import shutil
import tempfile
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack
from pathlib import Path
from typing import TYPE_CHECKING

from app.client import ApiClient
from app.problems import ApiProblem

if TYPE_CHECKING:
    import httpx
    from fastapi import FastAPI, Response
    from starlette.types import Receive, Scope, Send

PATHS = (
    "/gradio_api",
    "/assets",
    "/static",
    "/svelte",
    "/config",
    "/theme.css",
    "/favicon.ico",
    "/manifest.json",
    "/pwa_icon",
    "/robots.txt",
    "/login",
    "/logout",
    "/monitoring",
)
"""What Gradio answers besides `/`; none of it begins like a path of the API."""

MAX_FILE_SIZE = 512 * 1024 * 1024
"""Bytes of one uploaded file that this page takes; the API has limits of its own."""
PASSED_ON = frozenset(
    {
        "content-type",
        "content-disposition",
        "content-length",
        "content-security-policy",
        "x-content-type-options",
        "cache-control",
        "etag",
    }
)
"""Headers of an original file or a picture that reach the browser."""


class Interface:
    """An ASGI application that starts itself.

    A server runs its lifespan; a route of another application that merely calls it does not, so the
    first request starts it then (Gradio's queue belongs to the event loop that serves it).
    `start` may be awaited before, and `stop` when the process ends; both may be called twice.
    """

    def __init__(self, app: "FastAPI", client: ApiClient, folder: Path) -> None:
        self.app = app
        self._client = client
        self._folder = folder
        self._lifespan: AsyncExitStack | None = None
        self._starting = asyncio.Lock()

    async def start(self) -> None:
        """Starts Gradio's queue in the running event loop."""
        async with self._starting:
            if self._lifespan is None:
                stack = AsyncExitStack()
                await stack.enter_async_context(self.app.router.lifespan_context(self.app))
                self._lifespan = stack

    async def stop(self) -> None:
        """Ends what `start` began, closes the connections and removes uploaded files."""
        async with self._starting:
            if self._lifespan is not None:
                lifespan, self._lifespan = self._lifespan, None
                await lifespan.aclose()
            await self._client.aclose()
            await asyncio.to_thread(shutil.rmtree, self._folder, ignore_errors=True)

    async def __call__(self, scope: "Scope", receive: "Receive", send: "Send") -> None:
        if scope["type"] == "lifespan":
            await self._served(receive, send)
            return
        if self._lifespan is None:
            await self.start()
        await self.app(scope, receive, send)

    async def _served(self, receive: "Receive", send: "Send") -> None:
        while True:
            message = await receive()
            if message["type"] == "lifespan.startup":
                await self.start()
                await send({"type": "lifespan.startup.complete"})
            elif message["type"] == "lifespan.shutdown":
                await self.stop()
                await send({"type": "lifespan.shutdown.complete"})
                return


def create_ui(api_url: str) -> Interface:
    """The interface over the API at `api_url`. Imports Gradio: seconds, so call it in a thread.

    Call the result as an ASGI application (see `Interface`). It answers `/` and `PATHS`, and
    `GET /documents/...` by passing the API's original files and pictures of pages on, so that they show
    when it runs alone; beside the API those paths never come here. Gradio's look-ups in the web are switched off,
    and its uploads go to a folder of their own, which `stop` or the end of the process removes.
    """
    folder = Path(tempfile.mkdtemp(prefix="zhinao-ui-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    os.environ["GRADIO_ANALYTICS_ENABLED"] = "False"
    os.environ["GRADIO_TEMP_DIR"] = str(folder)
    os.environ["HF_HUB_OFFLINE"] = "1"

    import gradio as gr
    from fastapi import FastAPI

    from ui.pages import FRAME, STYLE, build, theme, translations

    client = ApiClient(api_url)
    app = FastAPI(openapi_url=None, docs_url=None, redoc_url=None)
    _pass_files_on(app, client)
    gr.mount_gradio_app(
        app,
        build(client),
        path="/",
        app_kwargs={"openapi_url": None},
        footer_links=[],
        run_history=False,
        show_error=False,
        max_file_size=MAX_FILE_SIZE,
        ssr_mode=False,
        enable_monitoring=False,
        mcp_server=False,
        i18n=translations(),
        theme=theme(),
        css=STYLE.read_text(encoding="utf-8"),
        head=f'<meta name="color-scheme" content="light"><style>{FRAME.read_text("utf-8")}</style>',
    )
    return Interface(app, client, folder)


def app_from_environment() -> Interface:
    """The interface alone, over the API that `ZHINAO_API_URL` names (default http://127.0.0.1:8000).

    For `uvicorn ui.main:app_from_environment --factory`.
    """
    return create_ui(os.environ.get("ZHINAO_API_URL", "http://127.0.0.1:8000"))


def _pass_files_on(app: "FastAPI", client: ApiClient) -> None:
    from fastapi import Request, Response

    @app.get("/documents/{document_id}/content")
    async def content(document_id: str, request: Request) -> Response:
        version = request.query_params.get("version", "")
        return await _passed_on(client.content(document_id, version))

    @app.get("/documents/{document_id}/pages/{number}")
    async def picture(document_id: str, number: int, request: Request) -> Response:
        version = request.query_params.get("version", "")
        highlight = request.query_params.get("highlight", "")
        return await _passed_on(client.picture(document_id, number, version, highlight))


async def _passed_on(called: AbstractAsyncContextManager["httpx.Response"]) -> "Response":
    from fastapi.responses import PlainTextResponse, StreamingResponse

    stack = AsyncExitStack()
    try:
        original = await stack.enter_async_context(called)
    except ApiProblem as problem:
        return PlainTextResponse(problem.detail, status_code=problem.status or 502)

    async def body() -> AsyncIterator[bytes]:
        async with stack:
            async for piece in original.aiter_raw():
                yield piece

    headers = {key: value for key, value in original.headers.items() if key in PASSED_ON}
    return StreamingResponse(body(), headers=headers)
