"""The JSON of `/v1`: OpenAI's requests and replies, and Jina's and Cohere's rerank.

Fields that are not known are ignored, as other servers do: clients send many that mean nothing here.
"""

from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from app.schemas import CitationOut
from pipeline.types import Sampling

DEFAULT_TOKENS = 1024
"""Tokens of an answer where the request names no limit (generation defaults of 360Zhinao)."""

Count = Annotated[int, Field(ge=1)]


class _Request(BaseModel):
    model_config = ConfigDict(extra="ignore")


class StreamOptions(_Request):
    include_usage: bool = False


class _Writing(_Request):
    """What chat and completion share: OpenAI's fields, and those of the original 360Zhinao server.

    `max_new_tokens` is a name for `max_tokens`; `do_sample: false` is temperature 0. A
    `repetition_penalty` p above 1 becomes a presence and a frequency penalty of p - 1 on the tokens
    written so far, which is how the original computes it (360Zhinao, generation_utils).
    """

    model: str
    stream: bool = False
    stream_options: StreamOptions | None = None
    n: int | None = None
    stop: str | list[str] | None = None
    temperature: Annotated[float, Field(ge=0, le=2)] | None = None
    top_p: Annotated[float, Field(gt=0, le=1)] | None = None
    top_k: Annotated[int, Field(ge=-1)] | None = None
    seed: int | None = None
    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    max_new_tokens: Count | None = None
    presence_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    frequency_penalty: Annotated[float, Field(ge=-2, le=2)] | None = None
    repetition_penalty: Annotated[float, Field(ge=1, le=3)] | None = None
    do_sample: bool | None = None

    @property
    def most_tokens(self) -> int:
        """Tokens that may be written."""
        return (
            self.max_completion_tokens or self.max_tokens or self.max_new_tokens or DEFAULT_TOKENS
        )

    @property
    def heat(self) -> float:
        """The temperature; 1 where none is given, as OpenAI does."""
        if self.do_sample is False:
            return 0.0
        return 1.0 if self.temperature is None else self.temperature

    @property
    def stops(self) -> tuple[str, ...]:
        """The strings that end the text, without empty ones."""
        given = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return tuple(word for word in given if word)

    @property
    def sampling(self) -> Sampling:
        """How tokens are chosen; `top_k` 0 and -1 mean all."""
        again = (self.repetition_penalty or 1.0) - 1.0
        presence, frequency = self.presence_penalty, self.frequency_penalty
        return Sampling(
            top_p=self.top_p,
            top_k=self.top_k if self.top_k and self.top_k > 0 else None,
            seed=self.seed,
            presence_penalty=again if presence is None else presence,
            frequency_penalty=again if frequency is None else frequency,
        )

    @property
    def with_usage(self) -> bool:
        return self.stream_options is not None and self.stream_options.include_usage


class ContentPart(_Request):
    type: str
    text: str = ""


class ChatTurn(_Request):
    role: Literal["system", "developer", "user", "assistant"]
    content: str | list[ContentPart] | None = None


class ChatRequest(_Writing):
    messages: Annotated[list[ChatTurn], Field(min_length=1)]


class CompletionRequest(_Writing):
    prompt: str | list[str]
    echo: bool = False


class EmbeddingRequest(_Request):
    """`input_type` tells a question from a passage, as Cohere and Jina have it."""

    model: str
    input: str | list[str] | list[int] | list[list[int]]
    encoding_format: Literal["float", "base64"] = "float"
    dimensions: Count | None = None
    input_type: Literal["query", "passage", "search_query", "search_document"] = "passage"


class RerankDocument(_Request):
    text: str


class RerankRequest(_Request):
    model: str
    query: Annotated[str, Field(min_length=1)]
    documents: list[str | RerankDocument]
    top_n: Count | None = None
    return_documents: bool = False


class UsageV1(BaseModel):
    prompt_tokens: int
    completion_tokens: int = 0
    total_tokens: int


class ChatMessageV1(BaseModel):
    role: Literal["assistant"] = "assistant"
    content: str


class ChatChoice(BaseModel):
    index: int = 0
    message: ChatMessageV1
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class ChatReply(BaseModel):
    """`citations` and `refused` come with answers from documents alone."""

    id: str
    object: Literal["chat.completion"] = "chat.completion"
    created: int
    model: str
    choices: list[ChatChoice]
    usage: UsageV1
    citations: list[CitationOut] | None = None
    refused: bool | None = None


class CompletionChoice(BaseModel):
    index: int = 0
    text: str
    finish_reason: Literal["stop", "length"]
    logprobs: None = None


class CompletionReply(BaseModel):
    id: str
    object: Literal["text_completion"] = "text_completion"
    created: int
    model: str
    choices: list[CompletionChoice]
    usage: UsageV1


class EmbeddingV1(BaseModel):
    object: Literal["embedding"] = "embedding"
    index: int
    embedding: list[float] | str


class EmbeddingReply(BaseModel):
    object: Literal["list"] = "list"
    data: list[EmbeddingV1]
    model: str
    usage: UsageV1


class RerankResult(BaseModel):
    index: int
    relevance_score: float
    document: RerankDocument | None = None


class RerankReply(BaseModel):
    """Best first. A score is 0 to 1 from a cross-encoder, and a mean cosine, -1 to 1, from the
    bundled reranker.
    """

    id: str
    model: str
    results: list[RerankResult]
    usage: UsageV1 | None


class ModelV1(BaseModel):
    id: str
    object: Literal["model"] = "model"
    created: int = 0
    owned_by: str = "zhinao"
    max_model_len: int | None = None


class ModelsReply(BaseModel):
    object: Literal["list"] = "list"
    data: list[ModelV1]


class ErrorV1(BaseModel):
    message: str
    type: str
    code: str | None = None
    param: str | None = None


class ErrorReply(BaseModel):
    error: ErrorV1


Chunk = dict[str, Any]
"""One event of a stream, as JSON."""
