"""`/v1` for reading: embeddings, rerank, and the list of models."""

import asyncio
import base64
import uuid
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from fastapi import APIRouter

from app.openai_errors import UnknownModel
from app.openai_schemas import (
    EmbeddingReply,
    EmbeddingRequest,
    EmbeddingV1,
    ModelsReply,
    ModelV1,
    RerankDocument,
    RerankReply,
    RerankRequest,
    RerankResult,
    UsageV1,
)
from app.served import RAG, GivenModels, Served
from pipeline.errors import InvalidInput
from pipeline.ports import Embedder, EncodedQuery
from pipeline.types import (
    Chunk,
    ChunkId,
    DocumentId,
    Embeddings,
    Hit,
    Key,
    Passage,
    Script,
    Vectors,
)

router = APIRouter(prefix="/v1", tags=["openai"])
MOST_TEXTS = 2048
"""Texts of one request, as OpenAI has it."""


@router.post("/embeddings")
async def embeddings(request: EmbeddingRequest, served: GivenModels) -> EmbeddingReply:
    """Unit vectors of texts. `input_type` "query" is for questions; without it texts are passages.

    A passage longer than the model reads is refused, not cut.
    """
    embedder = served.the_embedder(request.model)
    texts = _texts(request.input)
    if request.dimensions not in (None, embedder.dim):
        raise InvalidInput(f"dimensions must be {embedder.dim}, what the model has, or be left out")
    if request.input_type in ("query", "search_query"):
        embedded = await embedder.embed_queries(texts)
    else:
        embedded = await embedder.embed_passages([Passage("", text) for text in texts])
    read = await asyncio.to_thread(_counted, embedder, texts)
    rows = [
        EmbeddingV1(index=i, embedding=_encoded(row, packed=request.encoding_format == "base64"))
        for i, row in enumerate(embedded.vectors)
    ]
    usage = UsageV1(prompt_tokens=read, total_tokens=read)
    return EmbeddingReply(data=rows, model=request.model, usage=usage)


@router.post("/rerank", response_model_exclude_none=True)
async def rerank(request: RerankRequest, served: GivenModels) -> RerankReply:
    """Documents in the order of how well they answer the query, best first."""
    make = served.the_reranker(request.model)
    texts = [doc if isinstance(doc, str) else doc.text for doc in request.documents]
    if not texts or len(texts) > MOST_TEXTS:
        raise InvalidInput(f"documents must be a list of 1 to {MOST_TEXTS} texts")
    query, tokens = EncodedQuery(request.query, np.zeros(0, np.float32), None, {}), _Tokens(())
    embedder = served.embedder
    if embedder is not None and embedder.token_dim is not None:
        asked = await embedder.embed_queries([request.query])
        read = await embedder.embed_passages([Passage("", text) for text in texts])
        query = EncodedQuery(request.query, asked.vectors[0], _first(asked), {})
        tokens = _Tokens(read.tokens or ())
    scores = await make(tokens).score(query, [_hit(i, text) for i, text in enumerate(texts)])
    order = sorted(range(len(texts)), key=lambda i: (-scores[i], i))[: request.top_n]
    results = [
        RerankResult(
            index=i,
            relevance_score=scores[i],
            document=RerankDocument(text=texts[i]) if request.return_documents else None,
        )
        for i in order
    ]
    usage = None  # only an embedder counts
    if embedder is not None:
        count = await asyncio.to_thread(_counted, embedder, [request.query, *texts])
        usage = UsageV1(prompt_tokens=count, total_tokens=count)
    return RerankReply(
        id=f"rerank-{uuid.uuid4().hex}", model=request.model, results=results, usage=usage
    )


@router.get("/models", response_model_exclude_none=True)
async def models(served: GivenModels) -> ModelsReply:
    """The models, and `rag:COLLECTION` for each collection."""
    return ModelsReply(data=[await _listed(served, name) for name in await _names(served)])


@router.get("/models/{name:path}", response_model_exclude_none=True)
async def model(name: str, served: GivenModels) -> ModelV1:
    """One model; a chat model's `max_model_len` is what prompt and answer may take together."""
    if name not in await _names(served):
        raise UnknownModel(f"there is no model “{name}” here: see /v1/models")
    return await _listed(served, name)


async def _listed(served: Served, name: str) -> ModelV1:
    if served.chat is None or served.chat.name != name:
        return ModelV1(id=name)
    return ModelV1(id=name, max_model_len=await served.chat.context_tokens())


async def _names(served: GivenModels) -> list[str]:
    collections = await asyncio.to_thread(served.collections) if served.answerer else ()
    return [*served.models, *(f"{RAG}{name}" for name in collections)]


def _texts(given: str | list[str] | list[int] | list[list[int]]) -> list[str]:
    texts = [given] if isinstance(given, str) else [text for text in given if isinstance(text, str)]
    if not isinstance(given, str) and len(texts) < len(given):
        raise InvalidInput("input must be texts, not token ids: every model has its own ids")
    if not texts or len(texts) > MOST_TEXTS:
        raise InvalidInput(f"input must be a text or a list of 1 to {MOST_TEXTS} texts")
    if not all(text.strip() for text in texts):
        raise InvalidInput("input has an empty text: leave it out")
    return texts


def _counted(embedder: Embedder, texts: Sequence[str]) -> int:
    return sum(min(embedder.count_tokens(text), embedder.max_tokens) for text in texts)


def _encoded(vector: Vectors, *, packed: bool) -> list[float] | str:
    """`packed`: little-endian float32 in base64, as OpenAI's client asks for it."""
    if packed:
        return base64.b64encode(np.asarray(vector, dtype="<f4").tobytes()).decode("ascii")
    return [float(number) for number in vector]


@dataclass(frozen=True, slots=True)
class _Tokens:
    """Implements TokenVectors for texts that are numbered and not stored."""

    texts: Sequence[Vectors]

    def get(self, keys: Sequence[Key]) -> list[Vectors | None]:
        return [self.texts[key] if key < len(self.texts) else None for key in keys]


def _first(embedded: Embeddings) -> Vectors | None:
    return embedded.tokens[0] if embedded.tokens else None


def _hit(number: int, text: str) -> Hit:
    """A text as a reranker reads it; the rest of a chunk says nothing here."""
    chunk = Chunk(
        id=ChunkId(str(number)),
        key=Key(number),
        document=DocumentId(""),
        name="",
        version=1,
        text=text,
        start=0,
        end=len(text),
        page=None,
        heading=(),
        context="",
        script=Script.HAN,
    )
    return Hit(chunk, 0.0)
