"""What a job's thread waits for, and the thread of its heartbeat can end."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from indexer.jobs.work import Superseded

_T = TypeVar("_T")


def counting(count: Callable[[str], int], say: Callable[[], None]) -> Callable[[str], int]:
    """`count`, and a word before it: cutting a long text takes seconds and ends there when nobody wants it any more."""

    def counted(text: str) -> int:
        say()
        return count(text)

    return counted


class Stoppable:
    """Runs coroutines, one at a time."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._running: tuple[asyncio.AbstractEventLoop, asyncio.Task[Any]] | None = None

    def run(self, work: Coroutine[Any, Any, _T]) -> _T:
        """As `asyncio.run`. Raises Superseded when `stop` ended it."""
        try:
            return asyncio.run(self._known(work))
        except asyncio.CancelledError as error:
            raise Superseded from error

    def stop(self) -> None:
        """Cancel what runs at this moment, from any thread; what is run later is not touched."""
        with self._lock:
            if self._running is not None:
                loop, task = self._running
                loop.call_soon_threadsafe(task.cancel)

    async def _known(self, work: Coroutine[Any, Any, _T]) -> _T:
        task = asyncio.current_task()
        assert task is not None
        with self._lock:
            self._running = asyncio.get_running_loop(), task
        try:
            return await work
        finally:
            with self._lock:
                self._running = None
