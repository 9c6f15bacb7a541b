"""One thread that owns the indexes on one device: it loads them, drops them, and searches in batches."""

import queue
import threading
import time
from collections.abc import Sequence
from concurrent.futures import Future
from dataclasses import dataclass, field
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from indexer.segments.rows import RawVectors
from pipeline.errors import Overloaded, Unavailable
from pipeline.types import Vectors

Scores = tuple[Vectors, NDArray[np.int64]]
MOST_WAITING = 4096


class BatchIndex(Protocol):
    """A FAISS index, on whatever device: scores and rows (queries, k), best first."""

    def search(self, queries: Vectors, k: int, /) -> Scores: ...


class Devices(Protocol):
    """Where indexes can be. `load` and what it returns are used by one thread a device."""

    def free(self) -> list[int]:
        """The bytes that are free on each device."""
        ...

    def load(self, vectors: RawVectors, device: int) -> BatchIndex:
        """An index of these rows (n, dim) on a device, for inner products. Raises RuntimeError."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class _Load:
    handle: int
    vectors: RawVectors
    done: Future[None] = field(default_factory=Future)


@dataclass(frozen=True, slots=True, eq=False)
class _Drop:
    handle: int


@dataclass(frozen=True, slots=True, eq=False)
class _Search:
    handle: int
    vector: Vectors
    count: int
    done: Future[Scores] = field(default_factory=Future)


class _Stop:
    pass


class Owner:
    """Searches that come within `wait_s` of the first go to the device together, `most` at a time."""

    def __init__(self, devices: Devices, device: int, *, wait_s: float, most: int) -> None:
        self._devices = devices
        self._device = device
        self._wait_s = wait_s
        self._most = most
        # A SimpleQueue: `drop` comes from the garbage collector, in the middle of whatever runs.
        self._asked: queue.SimpleQueue[_Load | _Drop | _Search | _Stop] = queue.SimpleQueue()
        self._indexes: dict[int, BatchIndex] = {}
        self._thread = threading.Thread(target=self._run, name=f"index {device}", daemon=True)
        self._thread.start()

    @property
    def waiting(self) -> int:
        return self._asked.qsize()

    def load(self, handle: int, vectors: RawVectors) -> Future[None]:
        """Done when the rows are on the device, under this handle; fails with Unavailable."""
        asked = _Load(handle, vectors)
        self._asked.put(asked)
        return asked.done

    def drop(self, handle: int) -> None:
        """Forget the rows, after the searches that were asked before."""
        self._asked.put(_Drop(handle))

    def search(self, handle: int, vector: Vectors, count: int) -> Future[Scores]:
        """Scores and rows of the `count` best. Raises Overloaded when too many searches wait."""
        if self.waiting >= MOST_WAITING:
            raise Overloaded("too many searches wait for the GPU: try again")
        asked = _Search(handle, vector, count)
        self._asked.put(asked)
        return asked.done

    def close(self) -> None:
        """End the thread, after what was asked before."""
        self._asked.put(_Stop())
        self._thread.join()

    def _run(self) -> None:
        kept: _Load | _Drop | _Search | _Stop | None = None
        while True:
            first = kept or self._asked.get()
            kept = None
            match first:
                case _Stop():
                    self._indexes.clear()
                    return
                case _Drop():
                    self._indexes.pop(first.handle, None)
                case _Load():
                    self._load(first)
                case _Search():
                    batch, kept = self._gathered(first)
                    self._search(batch)
            del first

    def _gathered(
        self, first: _Search
    ) -> tuple[list[_Search], _Load | _Drop | _Search | _Stop | None]:
        """The searches to do together, and what came in their way and is next."""
        batch, until = [first], time.monotonic() + self._wait_s
        while len(batch) < self._most:
            try:
                asked = self._asked.get(timeout=max(0.0, until - time.monotonic()))
            except queue.Empty:
                break
            if not isinstance(asked, _Search):
                return batch, asked
            batch.append(asked)
        return batch, None

    def _load(self, asked: _Load) -> None:
        try:
            self._indexes[asked.handle] = self._devices.load(asked.vectors, self._device)
            asked.done.set_result(None)
        except RuntimeError as error:  # FAISS's, and CUDA's through it
            failed = Unavailable(f"a segment cannot be loaded to GPU {self._device}: {error}")
            failed.__cause__ = error
            asked.done.set_exception(failed)

    def _search(self, batch: Sequence[_Search]) -> None:
        for handle in dict.fromkeys(asked.handle for asked in batch):
            mine = [asked for asked in batch if asked.handle == handle]
            count = max(asked.count for asked in mine)
            queries = np.stack([asked.vector for asked in mine])
            try:
                scores, rows = self._indexes[handle].search(queries, count)
            except (RuntimeError, KeyError) as error:
                for asked in mine:
                    failed = Unavailable(f"a search on GPU {self._device} failed: {error}")
                    failed.__cause__ = error
                    asked.done.set_exception(failed)
                continue
            for i, asked in enumerate(mine):
                asked.done.set_result((scores[i, : asked.count], rows[i, : asked.count]))
