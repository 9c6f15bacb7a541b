"""The vector index as the settings want it: how good its lists are, and where segments are searched."""

import logging
from collections.abc import Callable, Sequence

from app.settings import IndexSettings
from indexer.folders import Folders
from indexer.index.milvus_leg import MilvusReader
from indexer.index.snapshot import Snapshots
from indexer.milvus.store import MilvusStore
from indexer.segments.gpu import CudaDevices, OnDevices
from indexer.segments.rows import RowIndex
from indexer.segments.segment import IndexRule, Segment
from indexer.segments.vectors import on_cpu
from indexer.sql.database import Database
from pipeline.errors import Unavailable
from pipeline.ports import Embedder

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


def build_milvus(chosen: IndexSettings) -> MilvusStore | None:
    """Connected when it is first used; None where none is set."""
    if chosen.milvus_url is None:
        return None
    return MilvusStore(
        chosen.milvus_url,
        token=chosen.milvus_token.get_secret_value(),
        prefix=chosen.milvus_prefix,
        dense_index=chosen.milvus_dense_index,
    )


def build_snapshots(
    database: Database,
    folders: Folders,
    embedders: Sequence[Embedder],
    milvus: MilvusStore | None,
    place: Placed = on_cpu,
) -> Snapshots:
    """The states of collections that these embedders made."""
    return Snapshots(
        database,
        folders,
        fingerprint=embedders[0].fingerprint,
        also=[each.fingerprint for each in embedders[1:]],
        milvus=MilvusReader(database, milvus),
        place=place,
    )
