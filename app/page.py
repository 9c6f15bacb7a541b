"""The page at `/`: a "starting" page that answers at once, until the interface is imported behind it."""

import asyncio
import importlib
import logging
import threading
from typing import Any, Protocol, cast

from starlette.responses import HTMLResponse
from starlette.types import Receive, Scope, Send

_log = logging.getLogger("zhinao.page")
_STARTING = """<!doctype html><html lang="zh"><meta charset="utf-8"><meta http-equiv="refresh" content="2">
<title>Zhinao RAG</title><style>body{font:16px system-ui,sans-serif;display:grid;place-items:center;min-height:90vh;
color:#1f2937}main{text-align:center}p{color:#6b7280}</style>
<main><h1>Zhinao RAG</h1><p>页面正在启动，几秒钟后自动打开。<br>The page is starting and will open by itself in a few
seconds.</p></main></html>"""
_BROKEN = _STARTING.replace('<meta http-equiv="refresh" content="2">', "").replace(
    "页面正在启动，几秒钟后自动打开。<br>The page is starting and will open by itself in a few\nseconds.",
    "页面无法启动，接口仍可使用；原因见日志。<br>The page could not start; the API works. The log says why.",
)


class _Interface(Protocol):
    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None: ...
    async def start(self) -> None: ...
    async def stop(self) -> None: ...


class Page:
    """An ASGI application that becomes the interface once that is there."""

    def __init__(self, api_url: str) -> None:
        self._api_url = api_url
        self._interface: _Interface | None = None
        self._broken = False
        self._over = False

    def start(self) -> None:
        """Import the interface in a thread; call it on the event loop that serves."""
        loop = asyncio.get_running_loop()
        threading.Thread(target=self._import, args=(loop,), name="page", daemon=True).start()

    async def stop(self) -> None:
        """End what the interface started; one that is still being imported is not waited for."""
        self._over = True
        if self._interface is not None:
            await self._interface.stop()

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if self._interface is not None:
            await self._interface(scope, receive, send)
        elif scope["type"] == "http":
            page = _BROKEN if self._broken else _STARTING
            await HTMLResponse(page, 503, {"Retry-After": "2"})(scope, receive, send)

    def _import(self, loop: asyncio.AbstractEventLoop) -> None:
        try:
            made: Any = importlib.import_module("ui.main").create_ui(self._api_url)
            if self._over:
                return
            asyncio.run_coroutine_threadsafe(made.start(), loop).result()
            self._interface = cast("_Interface", made)
        except Exception:  # noqa: BLE001  (an entry point: the API goes on without its page)
            if self._over:  # the process ends under the import, which may fail in any way then
                return
            self._broken = True
            _log.exception("the page could not start")
