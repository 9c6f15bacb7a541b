"""What stands under `/v1`: the models of this process and their names."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Annotated

from fastapi import Depends, Request

from app.openai_errors import UnknownModel
from app.settings import EmbedderSettings, RerankerSettings
from pipeline.answer import Answerer
from pipeline.ports import ChatModel, Embedder, Reranker, TokenVectors

RAG = "rag:"
"""`rag:manuals` answers from the documents of the collection “manuals”."""
BUNDLED_EMBEDDER = "multilingual-e5-small-q4"
BUNDLED_RERANKER = "maxsim"


@dataclass(frozen=True, slots=True)
class Served:
    """One a process. A part that is None is not served.

    `collections` names the collections that `answerer` knows; it reads the database.
    """

    embedder: Embedder | None = None
    embedder_name: str = BUNDLED_EMBEDDER
    reranker: Callable[[TokenVectors], Reranker] | None = None
    reranker_name: str = BUNDLED_RERANKER
    chat: ChatModel | None = None
    answerer: Answerer | None = None
    collections: Callable[[], Sequence[str]] = tuple

    @property
    def models(self) -> list[str]:
        """The names of the models themselves."""
        parts = (
            (self.chat, self.chat.name if self.chat else ""),
            (self.embedder, self.embedder_name),
            (self.reranker, self.reranker_name),
        )
        return [name for part, name in parts if part is not None and name]

    def the_embedder(self, name: str) -> Embedder:
        """Raises UnknownModel, as the two below do."""
        if self.embedder is None or not name or name != self.embedder_name:
            raise self._unknown(name, self.embedder_name if self.embedder else None, "embeddings")
        return self.embedder

    def the_reranker(self, name: str) -> Callable[[TokenVectors], Reranker]:
        if self.reranker is None or name != self.reranker_name:
            raise self._unknown(name, self.reranker_name if self.reranker else None, "reranking")
        return self.reranker

    def the_chat(self, name: str) -> ChatModel:
        if self.chat is None or name != self.chat.name:
            raise self._unknown(name, self.chat.name if self.chat else None, "chat")
        return self.chat

    def _unknown(self, name: str, known: str | None, work: str) -> UnknownModel:
        if known:
            return UnknownModel(f"there is no model “{name}” for {work} here: use “{known}”")
        hint = " (answers from documents: rag:COLLECTION)" if self.answerer else ""
        return UnknownModel(f"no model for {work} is set up here{hint}: see /v1/models")


def embedder_name(chosen: EmbedderSettings) -> str:
    """The name that is set, else the folder's, else that of the bundled one."""
    return chosen.name or (chosen.folder.name if chosen.folder else BUNDLED_EMBEDDER)


def reranker_name(chosen: RerankerSettings) -> str:
    """As above."""
    return chosen.name or (chosen.folder.name if chosen.folder else BUNDLED_RERANKER)


def _served(request: Request) -> Served:
    served: Served = request.app.state.served
    return served


GivenModels = Annotated[Served, Depends(_served)]
