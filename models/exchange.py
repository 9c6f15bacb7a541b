"""One JSON call to a model server: asked again where that is safe, read with limits, off any event loop.

Embedding and scoring change nothing on the server, so that a call whose answer broke off is sent again.
"""

import asyncio
import json
import threading
from collections.abc import Coroutine, Mapping
from typing import Any, TypeVar

from models.http import ModelServer
from pipeline.errors import ModelUnavailable

T = TypeVar("T")


async def exchange(
    server: ModelServer, path: str, body: Mapping[str, object] | None = None
) -> object:
    """The JSON of the answer to a POST, or without a `body` to a GET.

    Raises what `ModelServer.post` does, and ModelUnavailable for an answer that is no JSON, longer
    than `reply_bytes`, or not whole within `answer_s`. A broken answer is asked for once more.
    """
    for last in (False, True):
        try:
            return await _once(server, path, body)
        except _BrokenOff as error:
            if last:
                raise server.ended_early() from error
    raise AssertionError("the loop returns or raises")


class _BrokenOff(Exception):
    """The connection ended in the middle of the answer."""


async def _once(server: ModelServer, path: str, body: Mapping[str, object] | None) -> object:
    import httpx

    data = bytearray()
    reply = server.get(path) if body is None else server.post(path, body)
    async with reply as response:
        try:
            async with asyncio.timeout(server.limits.answer_s):
                async for piece in response.aiter_bytes():
                    data += piece
                    if len(data) > server.limits.reply_bytes:
                        raise server.garbage()
        except (httpx.RemoteProtocolError, httpx.ReadError) as error:
            raise _BrokenOff from error
    try:
        found: object = json.loads(bytes(data))
    except ValueError as error:
        raise server.garbage() from error
    return found


class WireThread:
    """An event loop of its own for a model's connections, in a thread that starts with the first call.

    Workers run an event loop for each document and close it; connections would die with it.
    """

    def __init__(self, name: str) -> None:
        self._name = name
        self._lock = threading.Lock()
        self._loop: asyncio.AbstractEventLoop | None = None
        self._thread: threading.Thread | None = None
        self._closed = False

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """The result of `work`; who leaves cancels it. ModelUnavailable once it was closed."""
        return await asyncio.wrap_future(
            asyncio.run_coroutine_threadsafe(work, self._running(work))
        )

    def wait(self, work: Coroutine[Any, Any, T]) -> T:
        """As `run`, for callers without an event loop."""
        return asyncio.run_coroutine_threadsafe(work, self._running(work)).result()

    def close(self, last: Coroutine[Any, Any, None]) -> None:
        """Do `last` in the thread, and end it. Closing again does nothing."""
        with self._lock:
            closed, self._closed = self._closed, True
            loop, thread = self._loop, self._thread
        if closed or loop is None or thread is None:
            last.close()
            return
        asyncio.run_coroutine_threadsafe(last, loop).result()
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        loop.close()

    def _running(self, work: Coroutine[Any, Any, Any]) -> asyncio.AbstractEventLoop:
        with self._lock:
            if self._closed:
                work.close()
                raise ModelUnavailable(f"{self._name} was closed: the application stops.")
            if self._loop is None:
                self._loop = asyncio.new_event_loop()
                self._thread = threading.Thread(
                    target=self._loop.run_forever, name=self._name, daemon=True
                )
                self._thread.start()
            return self._loop
