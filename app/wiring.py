"""The composition root: the only place that names concrete classes."""

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from app.settings import (
    ChatSettings,
    EmbedderSettings,
    ParserSettings,
    RerankerSettings,
    Settings,
)
from indexer.catalog.catalog import Catalog
from indexer.folders import Folders
from indexer.index.publish import Publisher
from indexer.index.snapshot import Snapshots
from indexer.ingest.ingest import Ingester
from indexer.ingest.members import Members
from indexer.jobs.control import Control
from indexer.jobs.jobs import Jobs
from indexer.parse.limits import Limits
from indexer.parse.pool import ParserPool
from indexer.sql.database import Database
from indexer.text.chunk import Chunking
from pipeline.answer import Answerer
from pipeline.calibration import UNMEASURED, Calibration
from pipeline.ports import ChatModel, Embedder, Reranker, SentenceScorer, TokenVectors
from pipeline.retrieve import Retriever

if TYPE_CHECKING:
    from models.remote_embed import RemoteEmbedder

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
    control: Control


@dataclass(frozen=True, slots=True)
class Services:
    """What the API needs: stores, and the read path with its models."""

    core: Core
    embedder: Embedder
    snapshots: Snapshots
    retriever: Retriever
    answerer: Answerer
    chat: ChatModel | None
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
    catalog = Catalog(database, folders, fingerprint=fingerprint, chunking=str(CHUNKING))
    control = Control(database, folders)
    return Core(settings, folders, database, catalog, Jobs(database), control)


@dataclass(frozen=True, slots=True)
class _Loaded:
    """The embedder with what belongs to it: how its scores are read, and how it is ended."""

    embedder: Embedder
    scorer: SentenceScorer
    calibration: Calibration
    close: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class _Ranking:
    """A reranker for a snapshot's token vectors. `leads`: its scores alone order the best hits."""

    of: Callable[[TokenVectors], Reranker] | None
    leads: bool = False
    close: Callable[[], None] | None = None


def build_services(settings: Settings) -> Services:
    """The read path. Loads or reaches the models; raises ModelUnavailable when it cannot."""
    loaded = _embedder(settings, threads=2)
    embedder = loaded.embedder
    core = build_core(settings, embedder.fingerprint)
    core.catalog.ensure_collection("default")
    ranking = _reranker(settings.reranker, embedder)
    calibration = replace(loaded.calibration, rerank_leads=ranking.leads)
    pool = ThreadPoolExecutor(_SEARCH_THREADS, thread_name_prefix="search")
    snapshots = Snapshots(core.database, core.folders, fingerprint=embedder.fingerprint)
    retriever = Retriever(embedder, snapshots.open, ranking.of, calibration, pool)
    chat = build_chat(settings.chat)
    answerer = Answerer(retriever, loaded.scorer, chat, calibration)
    ends = (partial(pool.shutdown, wait=False), ranking.close, loaded.close, core.database.close)
    return Services(
        core,
        embedder,
        snapshots,
        retriever,
        answerer,
        chat,
        tuple(end for end in ends if end is not None),
        ranking.of,
    )


@dataclass(frozen=True, slots=True)
class Models:
    """Models without a database: what `zhinao serve-model` serves."""

    embedder: Embedder | None
    reranker: Callable[[TokenVectors], Reranker] | None
    chat: ChatModel | None
    closing: tuple[Callable[[], None], ...]


def build_models(settings: Settings, roles: frozenset[str]) -> Models:
    """Load the models of the roles embed, rerank and chat; raises ModelUnavailable when one fails.

    The bundled reranker compares the embedder's token vectors, so it brings the embedder along.
    """
    reads = settings.reranker.kind == "bundled" and "rerank" in roles
    loaded = _embedder(settings, threads=2) if "embed" in roles or reads else None
    ranking = _Ranking(None)
    if "rerank" in roles:
        ranking = _reranker(settings.reranker, loaded.embedder if loaded else None)
    chat = build_chat(settings.chat) if "chat" in roles else None
    ends = (ranking.close, loaded.close if loaded else None)
    return Models(
        loaded.embedder if loaded else None,
        ranking.of,
        chat,
        tuple(end for end in ends if end is not None),
    )


def build_ingester(settings: Settings) -> tuple[Core, Ingester]:
    """The write path of a worker. Loads the embedder with one thread: every worker process has its own.

    Raises ModelUnavailable where a model that is set does not load: that of the layout engine, too.
    """
    embedder = _embedder(settings, threads=1).embedder
    core = build_core(settings, embedder.fingerprint)
    publisher = Publisher(core.database, core.folders)
    parser = build_parser_pool(settings.parser)
    parser.start()
    ingester = Ingester(
        core.database,
        core.folders,
        core.jobs,
        parser,
        embedder,
        publisher,
        CHUNKING,
        Members(core.database, core.folders, parser.unpack),
    )
    return core, ingester


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


def build_chat(chat: ChatSettings) -> ChatModel | None:
    """The chat model that is set; None means extractive answers."""
    match chat.kind:
        case "none":
            return None
        case "remote":
            from models.remote import RemoteChat

            assert chat.url is not None
            assert chat.name is not None
            return RemoteChat(
                chat.url,
                chat.name,
                api_key=chat.key,
                context_tokens=chat.context_tokens,
                tokenizer=chat.tokenizer,
            )
        case "gguf":
            from models.gguf import GgufChat
            from models.remote import DEFAULT_CONTEXT

            assert chat.path is not None
            return GgufChat(
                chat.path, name=chat.name, context_tokens=chat.context_tokens or DEFAULT_CONTEXT
            )
        case "folder":
            from models.zhinao_chat import ZhinaoChat

            assert chat.folder is not None
            return ZhinaoChat.load(
                chat.folder,
                device=chat.device,
                name=chat.name,
                context_tokens=chat.context_tokens,
            )
        case other:
            assert_never(other)


def prepare_models(settings: Settings) -> Path | None:
    """Write the bundled model into the data folder, once; None where another embedder is set."""
    if settings.embedder.kind != "bundled":
        return None
    from models.bundled import ensure_e5

    return ensure_e5(Folders(settings.data.resolve()).models)


def _embedder(settings: Settings, *, threads: int) -> _Loaded:
    """Raises ModelUnavailable when it does not load or answer: no other takes its place."""
    from models.sentence_scorer import CosineSentenceScorer, TokenSentenceScorer

    chosen = settings.embedder
    match chosen.kind:
        case "bundled":
            from models.calibration import e5_calibration
            from models.embed import E5Embedder

            folder = prepare_models(settings)
            assert folder is not None
            e5 = E5Embedder.load(folder, threads=threads)
            return _Loaded(e5, TokenSentenceScorer(e5), e5_calibration(), close=e5.close)
        case "folder":
            from models.zhinao_embed import ZhinaoEmbedder

            assert chosen.folder is not None
            own = ZhinaoEmbedder.load(
                chosen.folder,
                device=chosen.device,
                batch_tokens=chosen.batch_tokens,
                threads=threads,
            )
            return _Loaded(own, CosineSentenceScorer(own), UNMEASURED, close=own.close)
        case "remote":
            remote = _remote_embedder(chosen)
            return _Loaded(remote, CosineSentenceScorer(remote), UNMEASURED, close=remote.close)
        case other:
            assert_never(other)


def _remote_embedder(chosen: EmbedderSettings) -> "RemoteEmbedder":
    from models.remote_embed import RemoteEmbedder

    assert chosen.url is not None
    assert chosen.name is not None
    assert chosen.tokenizer is not None
    return RemoteEmbedder(
        chosen.url,
        chosen.name,
        api_key=chosen.key,
        dim=chosen.dim,
        max_tokens=chosen.max_tokens,
        tokenizer=chosen.tokenizer,
        instruction=chosen.instruction,
        input_type=chosen.input_type,
    )


def _reranker(chosen: RerankerSettings, embedder: Embedder | None) -> _Ranking:
    """Raises ModelUnavailable when it does not load or answer."""
    match chosen.kind:
        case "bundled":
            from models.rerank import MaxSimReranker

            late = embedder is not None and embedder.token_dim is not None
            return _Ranking(MaxSimReranker if late else None)
        case "folder":
            from models.zhinao_rerank import ZhinaoReranker

            assert chosen.folder is not None
            own = ZhinaoReranker.load(
                chosen.folder,
                device=chosen.device,
                batch_tokens=chosen.batch_tokens,
                max_tokens=chosen.max_tokens,
            )
            return _Ranking(lambda _: own, leads=True, close=own.close)
        case "remote":
            from models.remote_rerank import RemoteReranker

            assert chosen.url is not None
            assert chosen.name is not None
            remote = RemoteReranker(
                chosen.url,
                chosen.name,
                api_key=chosen.key,
                shape=chosen.shape,
                logits=chosen.logits,
            )
            return _Ranking(lambda _: remote, leads=True, close=remote.close)
        case other:
            assert_never(other)
