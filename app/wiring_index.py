"""The vector index as the settings want it: how good its lists are, and where segments are searched."""

import logging
from collections.abc import Callable, Sequence

from app.settings import IndexSettings
from indexer.segments.gpu import CudaDevices, OnDevices
from indexer.segments.rows import RowIndex
from indexer.segments.segment import IndexRule, Segment
from indexer.segments.vectors import on_cpu
from pipeline.errors import Unavailable

_log = logging.getLogger(__name__)
Placed = Callable[[Sequence[Segment]], Sequence[RowIndex]]


def build_rule(settings: IndexSettings) -> IndexRule:
    """How segments are written from now on; those that are there keep the recall they were made for."""
    return IndexRule(recall=settings.recall)


def build_placement(settings: IndexSettings) -> tuple[Placed, Callable[[], None] | None]:
    """Which index searches a segment, and what ends it.

    Raises Unavailable where GPUs are asked for and there is none, unless the settings let it fall back.
    """
    if settings.device == "cpu":
        return on_cpu, None
    try:
        devices = CudaDevices()
    except Unavailable as error:
        if not settings.fallback:
            raise
        _log.warning("searching on the CPU: %s", error)
        return on_cpu, None
    placed = OnDevices(devices, fallback=settings.fallback)
    return placed, placed.close
