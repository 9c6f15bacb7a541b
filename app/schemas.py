"""The JSON of the API. `ui` and the command line read these too; nothing else is shared with them."""

from typing import Annotated, Literal

from pydantic import BaseModel, ConfigDict, Field

NAME = Field(default="default", min_length=1, max_length=100)
DocumentIds = Annotated[list[Annotated[str, Field(max_length=100)]] | None, Field(max_length=1000)]


class Request(BaseModel):
    """A request body; unknown fields are an error, so that a typing mistake is not ignored."""

    model_config = ConfigDict(extra="forbid")


class SearchRequest(Request):
    """`POST /search`."""

    query: Annotated[str, Field(min_length=1, max_length=4000)]
    collection: Annotated[str, NAME]
    top_k: Annotated[int, Field(ge=1, le=100)] = 10
    mode: Literal["hybrid", "dense", "words"] = "hybrid"
    rerank: bool = True
    document_ids: DocumentIds = None
    explain: bool = False


class HitOut(BaseModel):
    """One hit. `scores` holds the score of every leg that took part.

    `page` is that of the sentence that holds most of the query, which may be behind the page where the text begins.
    `table` is the number of the table in it, for `GET /documents/{id}/tables/{n}`, and `cells` the range of the cells:
    `Sheet1!A2:D5` in a workbook, `A2:D5` in other tables. In slides `page` is the slide.
    """

    rank: int
    chunk_id: str
    document_id: str
    version: int
    filename: str
    page: int | None
    heading: list[str]
    text: str
    start: int
    end: int
    table: int | None = None
    cells: str | None = None
    score: float
    scores: dict[str, float]


class SearchResponse(BaseModel):
    """What `POST /search` returns."""

    hits: list[HitOut]
    timings_ms: dict[str, float]


class Turn(Request):
    """One earlier turn of a conversation."""

    role: Literal["user", "assistant"]
    content: Annotated[str, Field(max_length=100_000)]


class AskRequest(Request):
    """`POST /ask`."""

    question: Annotated[str, Field(min_length=1, max_length=4000)]
    collection: Annotated[str, NAME]
    history: Annotated[list[Turn], Field(max_length=200)] = []
    mode: Literal["auto", "chunks", "document"] = "auto"
    document_ids: DocumentIds = None
    top_k: Annotated[int, Field(ge=1, le=100)] | None = None
    stream: bool = False


class BoxOut(BaseModel):
    """A rectangle on a page, as fractions from its top left."""

    page: int
    x0: float
    y0: float
    x1: float
    y1: float


class CitationOut(BaseModel):
    """The exact words that support a sentence: `quote == text[start:end]` of the stored text.

    `table` and `cells` say where in a table they stand, as those of a hit.
    """

    marker: int
    document_id: str
    version: int
    filename: str
    page: int | None
    heading: list[str]
    quote: str
    start: int
    end: int
    chunk_id: str
    boxes: list[BoxOut]
    table: int | None = None
    cells: str | None = None


class SentenceOut(BaseModel):
    """A sentence, its citations' markers, and whether they support it."""

    text: str
    markers: list[int]
    support: float
    verdict: Literal["supported", "weak", "unsupported"]


class UsageOut(BaseModel):
    """Tokens read and written by a chat model."""

    prompt_tokens: int
    completion_tokens: int


class AskResponse(BaseModel):
    """What `POST /ask` returns, and the data of the event `finished`. `model` is "extractive" when
    no chat model is set.
    """

    id: str
    answer: str
    sentences: list[SentenceOut]
    citations: list[CitationOut]
    mode: Literal["chunks", "document"]
    refused: bool
    model: str
    usage: UsageOut
    timings_ms: dict[str, float]


class UploadedOut(BaseModel):
    """One row a file, in the order sent. `error` says what was wrong with a file that was not
    taken.
    """

    id: str | None
    filename: str
    job_id: str | None
    status: str
    duplicate: bool
    error: str | None


class UploadResponse(BaseModel):
    """What `POST /documents` returns."""

    documents: list[UploadedOut]


class SimilarOut(BaseModel):
    """A document of the collection that is nearly the same; `share` estimates what both share, 0.8 to 1."""

    document_id: str
    filename: str
    share: float


class UrlRequest(Request):
    """`POST /documents` with a URL: the file behind it is fetched and taken as an upload."""

    url: Annotated[str, Field(min_length=1, max_length=2000)]
    collection: Annotated[str, NAME]


class MembersOut(BaseModel):
    """How many files came out of an archive or a mail, and how many of them are read."""

    total: int
    read: int


class DocumentOut(BaseModel):
    """A document at its newest searchable version; `status` and `error` are those of its newest upload.

    `status` is processing, ready or failed; `version` is None while no version is searchable. `parent` is the id of
    the archive or mail that it came out of, `members` counts what came out of it, `source` is the URL that it was
    fetched from.
    """

    id: str
    collection: str
    filename: str
    title: str | None
    version: int | None
    versions: list[int]
    media_type: str
    size: int
    pages: int | None
    chunks: int
    status: Literal["processing", "ready", "failed"]
    error: str | None
    job_id: str | None
    similar: list[SimilarOut]
    parent: str | None = None
    members: MembersOut | None = None
    source: str | None = None
    created: float
    updated: float


class DocumentsResponse(BaseModel):
    """A page of documents; `next_cursor` is None on the last one."""

    documents: list[DocumentOut]
    next_cursor: str | None


class DeleteReceipt(BaseModel):
    """What a deletion took away, by store: chunks, vectors, words, originals, texts (rows or
    files). Nothing of it answers from the next request on.

    The stores of `at_once` hold nothing of it any more; those of `with_compaction` pass over it, and lose it when
    their segments are merged or with `zhinao doctor --deep --compact`. Pictures of pages are never stored.
    """

    id: str
    deleted: dict[str, int]
    at_once: list[str]
    with_compaction: list[str]


class KnownAnswer(Request):
    """A question, and the documents that answer it; with `passage`, words of theirs that must be in a hit."""

    question: Annotated[str, Field(min_length=1, max_length=4000)]
    document_ids: Annotated[list[str], Field(min_length=1, max_length=100)]
    passage: Annotated[str, Field(min_length=1, max_length=4000)] | None = None


class CollectionQuestion(Request):
    """A question that a collection is judged by, and the documents that answer it, by id or by name; with `passage`,
    words of theirs that must be in a hit.
    """

    question: Annotated[str, Field(min_length=1, max_length=4000)]
    document_ids: Annotated[list[str], Field(max_length=100)] = []
    filenames: Annotated[list[str], Field(max_length=100)] = []
    passage: Annotated[str, Field(min_length=1, max_length=4000)] | None = None


class QuestionsRequest(Request):
    """`PUT /collections/{name}/questions`: these take the place of those that are there; an empty list removes them."""

    questions: Annotated[list[CollectionQuestion], Field(max_length=1000)]


class QuestionsResponse(BaseModel):
    """The questions that a collection is judged by, in their order, each with the ids and names of its documents."""

    questions: list[CollectionQuestion]


class CollectionRequest(Request):
    """`POST /collections`. `rerank` False stores no token vectors: less disk, no MaxSim."""

    name: Annotated[str, Field(min_length=1, max_length=100)]
    rerank: bool = True


class CollectionOut(BaseModel):
    """A collection and what it holds."""

    name: str
    rerank: bool
    documents: int
    chunks: int
    created: float


class CollectionsResponse(BaseModel):
    """A page of collections, by name."""

    collections: list[CollectionOut]
    next_cursor: str | None


class Problem(BaseModel):
    """RFC 9457 problem details; `detail` says what was wrong and what to do."""

    type: str
    title: str
    status: int
    detail: str


class ReadyOut(BaseModel):
    """`GET /health/ready`: every part with "ok" or what is wrong."""

    ready: bool
    parts: dict[str, str]
    profile: str
    models: dict[str, str]
