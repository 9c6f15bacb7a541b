"""The composition root: with app/wiring_models.py the only place that names concrete classes."""

from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass, field, fields
from functools import cache, partial
from pathlib import Path
from typing import assert_never

from app.settings import ParserSettings, Settings
from app.wiring_index import build_milvus, build_placement, build_rule, build_snapshots
from app.wiring_models import LoadedEmbedder, build_chat, build_embedder, build_spaces
from indexer.catalog.arriving import Arrivals
from indexer.catalog.catalog import Catalog
from indexer.catalog.recent import RecentQueries
from indexer.folders import Folders
from indexer.index.backing import Backing
from indexer.index.merge import Merger
from indexer.index.merging import Merging
from indexer.index.milvus_leg import MilvusLeg, MilvusReader
from indexer.index.publish import Publisher
from indexer.index.snapshot import Snapshots
from indexer.ingest.evaluating import Evaluating
from indexer.ingest.ingest import Ingester
from indexer.ingest.members import Members
from indexer.ingest.reindex import Reindexing
from indexer.jobs.control import Control
from indexer.jobs.deleting import Deleting
from indexer.jobs.expiring import Expiring
from indexer.jobs.jobs import Jobs
from indexer.jobs.kinds import Queue
from indexer.jobs.schedules import Schedules
from indexer.jobs.watching import Watching
from indexer.jobs.work import Handler
from indexer.milvus.store import MilvusStore
from indexer.parse.limits import Limits
from indexer.parse.pool import ParserPool
from indexer.sql.database import Database
from indexer.text.chunk import Chunking
from pipeline.answer import Answerer
from pipeline.errors import InvalidInput, Unavailable
from pipeline.ports import ChatModel, Embedder, Reranker, TokenVectors
from pipeline.retrieve import Retriever, Space
from pipeline.types import JobKind

_SEARCH_THREADS = 4


@dataclass(frozen=True, slots=True)
class Core:
    """Stores without models: enough for lists, uploads and jobs."""

    settings: Settings
    folders: Folders
    database: Database
    catalog: Catalog
    jobs: Jobs
    control: Control
    schedules: Schedules


@dataclass(frozen=True, slots=True)
class Services:
    """What the API needs: stores, and the read path with its models."""

    core: Core
    embedder: Embedder
    snapshots: Snapshots
    retriever: Retriever
    answerer: Answerer
    chat: ChatModel | None
    recent: RecentQueries
    closing: tuple[Callable[[], None], ...] = field(default=())
    reranker: Callable[[TokenVectors], Reranker] | None = None

    async def stop(self) -> None:
        """End what the chat model holds; call it on the event loop that served."""
        if self.chat is not None:
            await self.chat.aclose()

    def close(self) -> None:
        for close in self.closing:
            close()


def build_core(settings: Settings, fingerprint: str) -> Core:
    """Stores, with the schema brought up to date."""
    folders = Folders(settings.data.resolve())
    folders.data.mkdir(parents=True, exist_ok=True)
    database = Database(settings.database)
    database.migrate()
    catalog = Catalog(
        database, folders, fingerprint=fingerprint, chunking=str(build_chunking(settings))
    )
    control = Control(database, folders)
    jobs, schedules = Jobs(database), Schedules(database)
    return Core(settings, folders, database, catalog, jobs, control, schedules)


def build_services(settings: Settings) -> Services:
    """The read path. Loads or reaches the models; raises ModelUnavailable when it cannot."""
    loaded = build_embedders(settings, threads=2)
    embedder = loaded[0].embedder
    core = build_core(settings, embedder.fingerprint)
    core.catalog.ensure_collection("default")
    spaces, rankings = build_spaces(settings.reranker, loaded)
    pool = ThreadPoolExecutor(_SEARCH_THREADS, thread_name_prefix="search")
    milvus = build_milvus(settings.index)
    place, unplace = build_placement(settings.index)
    snapshots = build_snapshots(
        core.database, core.folders, [each.embedder for each in loaded], milvus, place
    )
    recent = RecentQueries(core.database, kept=settings.queries.kept, days=settings.queries.days)
    retriever = Retriever(spaces, snapshots.open, pool, recent.note)
    chat = build_chat(settings.chat)
    answerer = Answerer(retriever, chat)
    ends = (
        partial(pool.shutdown, wait=False),
        rankings[0].close,
        *(each.close for each in loaded),
        milvus.close if milvus else None,
        unplace,
        core.database.close,
    )
    return Services(
        core,
        embedder,
        snapshots,
        retriever,
        answerer,
        chat,
        recent,
        tuple(end for end in ends if end is not None),
        rankings[0].of,
    )


def _build_retriever(core: Core, loaded: Sequence[LoadedEmbedder]) -> Retriever:
    """Searches as the API does, on the CPU, and remembers no query."""
    settings = core.settings
    spaces, _ = build_spaces(settings.reranker, loaded)
    snapshots = build_snapshots(
        core.database,
        core.folders,
        [each.embedder for each in loaded],
        build_milvus(settings.index),
    )
    pool = ThreadPoolExecutor(1, thread_name_prefix="evaluate")
    return Retriever(spaces, snapshots.open, pool)


def build_chunking(settings: Settings) -> Chunking:
    chosen = settings.chunking
    return Chunking(chosen.aim, chosen.most, chosen.least)


def build_embedders(settings: Settings, *, threads: int) -> tuple[LoadedEmbedder, ...]:
    """The embedder, and the next one where another is set.

    Raises ModelUnavailable as `build_embedder` does, and InvalidInput where passages are to be longer than one reads.
    """
    loaded = [build_embedder(settings, threads=threads)]
    if settings.next_embedder is not None:
        chosen = settings.model_copy(update={"embedder": settings.next_embedder})
        other = build_embedder(chosen, threads=threads)
        if other.embedder.fingerprint != loaded[0].embedder.fingerprint:
            loaded.append(other)
        elif other.close is not None:
            other.close()
    for each in loaded:
        if settings.chunking.most > each.embedder.max_tokens:
            raise InvalidInput(
                f"ZHINAO_CHUNKING__MOST is {settings.chunking.most}, and {each.embedder.fingerprint} reads passages "
                f"of at most {each.embedder.max_tokens} tokens: set it to that or less"
            )
    return tuple(loaded)


def build_ingester(settings: Settings) -> tuple[Core, Ingester]:
    """The write path of a worker. Loads the embedder with one thread: every worker process has its own.

    Raises ModelUnavailable where a model that is set does not load: that of the layout engine, too.
    """
    embedder, *also = (each.embedder for each in build_embedders(settings, threads=1))
    core = build_core(settings, embedder.fingerprint)
    leg = _milvus_leg(core, build_milvus(settings.index))
    if settings.index.milvus_url is not None:
        with suppress(Unavailable):  # a publish says so, if it concerns one
            leg.sweep()
    publisher = Publisher(core.database, core.folders, leg, rule=build_rule(settings.index))
    parser = build_parser_pool(settings.parser)
    parser.start()
    ingester = Ingester(
        core.database,
        core.folders,
        core.jobs,
        parser,
        embedder,
        publisher,
        build_chunking(settings),
        Members(core.database, core.folders, parser.unpack),
        also,
    )
    return core, ingester


def _milvus_leg(core: Core, store: MilvusStore | None) -> MilvusLeg:
    everything = core.settings.index.backend == "milvus"
    return MilvusLeg(core.database, store, everything=everything)


def _build_reindexing(core: Core, loaded: Sequence[LoadedEmbedder]) -> Reindexing:
    """To the last of the embedders that are loaded."""
    settings = core.settings
    store = build_milvus(settings.index)
    leg = _milvus_leg(core, store)
    return Reindexing(
        core.database,
        core.folders,
        core.jobs,
        Publisher(core.database, core.folders, leg, rule=build_rule(settings.index)),
        [Space(each.embedder, each.scorer, each.calibration) for each in reversed(loaded)],
        build_chunking(settings),
        MilvusReader(core.database, store),
        leg,
    )


@dataclass(frozen=True, slots=True)
class Worker:
    """What a worker process runs: the kinds of jobs that it takes, each with its handler."""

    core: Core
    handlers: Mapping[JobKind, Handler]


def build_worker(settings: Settings, queue: Queue) -> Worker:
    """The handlers of a queue's kinds; a kind without one stays queued. Raises what `build_ingester` raises."""
    match queue:
        case Queue.INGEST:
            core, ingester = build_ingester(settings)
            stores = (core.database, core.folders)
            watching = Watching(
                *stores,
                Arrivals(*stores, core.catalog),
                roots=settings.watch_roots,
                most_bytes=settings.max_upload_mb * 2**20,
            )
            handlers: dict[JobKind, Handler] = {
                JobKind.INGEST: ingester,
                JobKind.DELETE: Deleting(*stores),
                JobKind.WATCH: watching,
                JobKind.EXPIRE: Expiring(*stores),
            }
            return Worker(core, handlers)
        case Queue.INDEX:
            loaded = build_embedders(settings, threads=1)
            core = build_core(settings, loaded[0].embedder.fingerprint)
            return Worker(
                core,
                {
                    JobKind.REINDEX: _build_reindexing(core, loaded),
                    JobKind.MERGE: Merging(
                        Merger(core.database, core.folders, rule=build_rule(settings.index))
                    ),
                    JobKind.BACKUP: Backing(
                        core.database,
                        core.folders,
                        folder=settings.backup.folder,
                        keep=settings.backup.keep,
                    ),
                },
            )
        case Queue.TRAIN:
            loaded = build_embedders(settings, threads=1)
            core = build_core(settings, loaded[0].embedder.fingerprint)
            retriever = cache(partial(_build_retriever, core, loaded))
            return Worker(core, {JobKind.EVALUATE: Evaluating(core.database, retriever)})
        case _:
            assert_never(queue)


def build_parser_pool(chosen: ParserSettings) -> ParserPool:
    """The processes that files are read in; none of them is started yet."""
    limits = Limits(**{field.name: getattr(chosen, field.name) for field in fields(Limits)})
    layout = chosen.engine == "layout"
    return ParserPool(
        limits,
        children=chosen.children,
        total_mb=chosen.total_mb,
        layout_model=chosen.layout_model or Path() if layout else None,
    )
