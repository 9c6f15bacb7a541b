"""Segments searched on GPUs, behind the same interface as on the CPU.

A segment's rows are held flat, as float16, on one or several devices. The index there knows nothing of
dead or excluded rows, so more rows are fetched, and twice as many until enough are left. Scores come
from the raw vectors, as everywhere.
"""

import itertools
import logging
import math
import threading
import weakref
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from typing import Any

import numpy as np

from indexer.segments.owner import BatchIndex, Devices, Owner, Scores
from indexer.segments.placement import DoesNotFit, plan
from indexer.segments.rows import (
    MARGIN,
    NOTHING,
    FlatRows,
    Found,
    RawVectors,
    RowIndex,
    Wanted,
    load_faiss,
)
from indexer.segments.segment import Segment
from pipeline.errors import Unavailable
from pipeline.types import Vectors

MOST_FETCHED = 2048
"""FAISS gives no more than this from a GPU. A search that needs more is one for the CPU."""
HALF_ERROR = 1e-3
"""How far a product may be off when the query is rounded to float16, too: 2^-11 for unit vectors, twice."""
SECONDS = 30.0
WAIT_S = 0.002
MOST_TOGETHER = 64
BLOCK = 65_536

_log = logging.getLogger(__name__)


class CudaDevices:
    """Every GPU that FAISS sees. Raises Unavailable where there is none, or FAISS is the one for CPUs."""

    def __init__(self) -> None:
        faiss = load_faiss()
        if not hasattr(faiss, "StandardGpuResources"):
            raise Unavailable(
                "ZHINAO_INDEX__DEVICE is cuda, but the FAISS that is installed is the one for CPUs: install the "
                "extra gpu in place of cpu, or set ZHINAO_INDEX__DEVICE=cpu or ZHINAO_INDEX__FALLBACK=true"
            )
        self._resources = [_resources(faiss) for _ in range(faiss.get_num_gpus())]
        if not self._resources:
            raise Unavailable(
                "ZHINAO_INDEX__DEVICE is cuda, but FAISS finds no GPU: check nvidia-smi, or set "
                "ZHINAO_INDEX__DEVICE=cpu or ZHINAO_INDEX__FALLBACK=true"
            )

    def free(self) -> list[int]:
        faiss = load_faiss()
        return [int(faiss.getFreeMemory(device)) for device in range(len(self._resources))]

    def load(self, vectors: RawVectors, device: int) -> BatchIndex:
        faiss = load_faiss()
        config = faiss.GpuIndexFlatConfig()
        config.device, config.useFloat16 = device, True
        loaded = faiss.GpuIndexFlatIP(self._resources[device], vectors.shape[1], config)
        for at in range(0, len(vectors), BLOCK):
            loaded.add(vectors[at : at + BLOCK].astype(np.float32))
        index: BatchIndex = loaded
        return index


class CpuDevices:
    """The same on the CPU, for tests: so many devices of so many bytes each."""

    def __init__(self, room: Sequence[int]) -> None:
        self._room = list(room)

    def free(self) -> list[int]:
        return list(self._room)

    def load(self, vectors: RawVectors, device: int) -> BatchIndex:
        self._room[device] -= vectors.nbytes
        index: BatchIndex = FlatRows(vectors).batch()
        return index


class OnDevices:
    """Puts segments on devices when a snapshot first shows them, and takes them off with the last one.

    Where they do not fit, or none can be loaded, Unavailable is raised; with `fallback` such segments are
    searched on the CPU. Give it to `SegmentedVectors` as `place`.
    """

    def __init__(
        self,
        devices: Devices,
        *,
        fallback: bool = False,
        wait_s: float = WAIT_S,
        most: int = MOST_TOGETHER,
    ) -> None:
        self._devices = devices
        self._fallback = fallback
        count = len(devices.free())
        self._owners = [Owner(devices, i, wait_s=wait_s, most=most) for i in range(count)]
        self._placed: weakref.WeakKeyDictionary[Segment, RowIndex] = weakref.WeakKeyDictionary()
        self._handles = itertools.count()
        self._lock = threading.Lock()

    def __call__(self, segments: Sequence[Segment]) -> list[RowIndex]:
        """The index of each segment. Raises Unavailable."""
        with self._lock:  # two collections would count on the same room
            self._place([s for s in segments if s not in self._placed and len(s)])
            return [self._placed.get(segment, segment.index) for segment in segments]

    def close(self) -> None:
        """End the owners, after the searches that wait."""
        for owner in self._owners:
            owner.close()

    def _place(self, fresh: Sequence[Segment]) -> None:
        if not fresh:
            return
        layout = plan([segment.vectors.nbytes for segment in fresh], self._devices.free())
        if isinstance(layout, DoesNotFit):
            self._give_up(layout.sentence, None)
            self._placed.update((segment, segment.index) for segment in fresh)
            return
        for segment, chosen in zip(fresh, layout.devices, strict=True):
            self._placed[segment] = self._load(segment, chosen)

    def _load(self, segment: Segment, chosen: Sequence[int]) -> RowIndex:
        handle = next(self._handles)
        owners = [self._owners[device] for device in chosen]
        try:
            for loading in [owner.load(handle, segment.vectors) for owner in owners]:
                loading.result()
        except Unavailable as error:
            _drop(owners, handle)
            self._give_up(str(error), error)
            return segment.index
        weakref.finalize(segment, _drop, owners, handle).atexit = False
        return DeviceRows(segment.index, handle, owners, len(segment))

    def _give_up(self, sentence: str, error: Unavailable | None) -> None:
        if not self._fallback:
            raise Unavailable(sentence) from error
        _log.warning("searching on the CPU: %s", sentence)


class DeviceRows:
    """One segment on one or several devices; the least busy of them is asked."""

    def __init__(self, cpu: RowIndex, handle: int, owners: Sequence[Owner], rows: int) -> None:
        self._cpu = cpu
        self._handle = handle
        self._owners = tuple(owners)
        self._rows = rows

    def begin(self, vector: Vectors, count: int, wanted: Wanted) -> Callable[[], Found]:
        """Ask, and wait in the function that is returned; so several segments are asked at once."""
        if not wanted.count:
            return lambda: NOTHING
        fetched = math.ceil((min(count, wanted.count) + MARGIN) * wanted.of / wanted.count)
        if fetched > MOST_FETCHED < self._rows:
            return self._cpu.begin(vector, count, wanted)
        asked = self._ask(vector, fetched)
        return lambda: self._finish(asked, vector, count, wanted, fetched)

    def _finish(
        self, asked: Future[Scores], vector: Vectors, count: int, wanted: Wanted, fetched: int
    ) -> Found:
        enough = min(count, wanted.count)
        while True:
            scores, rows = _result(asked)
            chosen, shown = rows, scores
            if wanted.mask is not None:
                inside = wanted.mask[rows]
                chosen, shown = rows[inside], scores[inside]
            if len(rows) == self._rows or len(chosen) == wanted.count:
                return Found(chosen, shown, -math.inf)
            if len(chosen) >= enough:
                return Found(chosen, shown, float(scores[-1]) + HALF_ERROR)
            fetched *= 2
            if fetched > MOST_FETCHED < self._rows:
                return self._cpu.begin(vector, count, wanted)()
            asked = self._ask(vector, fetched)

    def _ask(self, vector: Vectors, fetched: int) -> Future[Scores]:
        owner = min(self._owners, key=lambda one: one.waiting)
        return owner.search(self._handle, vector, min(fetched, self._rows))


def _result(asked: Future[Scores]) -> Scores:
    try:
        return asked.result(SECONDS)
    except TimeoutError as error:
        raise Unavailable(f"the GPU did not answer within {SECONDS:.0f} seconds") from error


def _drop(owners: Sequence[Owner], handle: int) -> None:
    for owner in owners:
        owner.drop(handle)


def _resources(faiss: Any) -> Any:  # noqa: ANN401  # faiss has no types
    resources = faiss.StandardGpuResources()
    resources.setTempMemory(256 * 2**20)
    return resources
