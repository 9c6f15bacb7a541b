"""Threads for blocking model work, with a limit on how much may wait."""

import asyncio
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, TypeVar

from pipeline.errors import Overloaded

_P = ParamSpec("_P")
_T = TypeVar("_T")


class BoundedPool:
    """Runs calls in `workers` threads; at most `waiting` more may wait for one."""

    def __init__(self, name: str, *, workers: int, waiting: int) -> None:
        self._threads = ThreadPoolExecutor(workers, thread_name_prefix=name)
        self._name = name
        self._places = threading.BoundedSemaphore(workers + waiting)

    async def run(self, call: Callable[_P, _T], *args: _P.args, **kwargs: _P.kwargs) -> _T:
        """The result of the call. Raises Overloaded when too many wait already.

        Cancelling takes a waiting call out of the queue; one that runs finishes unheard.
        """
        if not self._places.acquire(blocking=False):
            raise Overloaded(f"Too many requests wait for the {self._name}. Try again shortly.")
        try:
            future = self._threads.submit(call, *args, **kwargs)
        except RuntimeError as error:
            self._places.release()
            raise Overloaded(f"The {self._name} is shutting down.") from error
        future.add_done_callback(lambda _: self._places.release())
        return await asyncio.wrap_future(future)

    def close(self) -> None:
        """Drops what waits, and returns when what runs has finished."""
        self._threads.shutdown(wait=True, cancel_futures=True)
