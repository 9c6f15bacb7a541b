"""The composition root: the only place that names concrete classes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from app.settings import ChatSettings, Settings
from indexer.catalog import Catalog
from indexer.chunk import Chunking
from indexer.database import Database
from indexer.folders import Folders
from indexer.ingest import Ingester
from indexer.jobs import Jobs
from indexer.publish import Publisher
from indexer.snapshot import Snapshots
from pipeline.answer import Answerer
from pipeline.ports import ChatModel
from pipeline.retrieve import Retriever

if TYPE_CHECKING:
    from models.embed import E5Embedder

CHUNKING = Chunking()
_SEARCH_THREADS = 4


@dataclass(frozen=True, slots=True)
class Core:
    """Stores without models: enough for lists, uploads and jobs."""

    settings: Settings
    folders: Folders
    database: Database
    catalog: Catalog
    jobs: Jobs


@dataclass(frozen=True, slots=True)
class Services:
    """What the API needs: stores, and the read path with its models."""

    core: Core
    embedder: "E5Embedder"
    snapshots: Snapshots
    retriever: Retriever
    answerer: Answerer
    chat: ChatModel | None
    closing: tuple[Callable[[], None], ...] = field(default=())

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
    catalog = Catalog(database, folders, fingerprint=fingerprint, chunking=str(CHUNKING))
    return Core(settings, folders, database, catalog, Jobs(database))


def build_services(settings: Settings) -> Services:
    """The read path. Loads the embedder; raises ModelUnavailable when it cannot."""
    from models.calibration import e5_calibration
    from models.rerank import MaxSimReranker
    from models.sentence_scorer import TokenSentenceScorer

    embedder = _load_embedder(settings, threads=2)
    core = build_core(settings, embedder.fingerprint)
    core.catalog.ensure_collection("default")
    calibration = e5_calibration()
    pool = ThreadPoolExecutor(_SEARCH_THREADS, thread_name_prefix="search")
    snapshots = Snapshots(core.database, core.folders, fingerprint=embedder.fingerprint)
    retriever = Retriever(embedder, snapshots.open, MaxSimReranker, calibration, pool)
    chat = build_chat(settings.chat)
    answerer = Answerer(retriever, TokenSentenceScorer(embedder), chat, calibration)
    closing = (partial(pool.shutdown, wait=False), embedder.close, core.database.close)
    return Services(core, embedder, snapshots, retriever, answerer, chat, closing)


def build_ingester(settings: Settings) -> tuple[Core, Ingester]:
    """The write path of a worker. Loads the embedder with one thread: every worker process has its own."""
    from indexer.parse.parser import build_parser

    embedder = _load_embedder(settings, threads=1)
    core = build_core(settings, embedder.fingerprint)
    publisher = Publisher(core.database, core.folders)
    ingester = Ingester(
        core.database, core.folders, core.jobs, build_parser(), embedder, publisher, CHUNKING
    )
    return core, ingester


def build_chat(chat: ChatSettings) -> ChatModel | None:
    """The chat model that is set; None means extractive answers."""
    match chat.kind:
        case "none":
            return None
        case "remote":
            from models.remote import RemoteChat

            assert chat.url is not None
            assert chat.name is not None
            key = chat.api_key.get_secret_value() if chat.api_key else None
            return RemoteChat(
                chat.url,
                chat.name,
                api_key=key,
                context_tokens=chat.context_tokens,
                tokenizer=chat.tokenizer,
            )
        case "gguf":
            from models.gguf import GgufChat

            assert chat.path is not None
            return GgufChat(chat.path, name=chat.name, context_tokens=chat.context_tokens)
        case other:
            assert_never(other)


def prepare_models(settings: Settings) -> Path:
    """Write the bundled model into the data folder, once."""
    from models.bundled import ensure_e5

    return ensure_e5(Folders(settings.data.resolve()).models)


def _load_embedder(settings: Settings, *, threads: int) -> "E5Embedder":
    from models.embed import E5Embedder

    return E5Embedder.load(prepare_models(settings), threads=threads)
