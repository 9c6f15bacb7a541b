"""Values: frozen, slotted, and shared by every folder.

Offsets (`start`, `end`) are Unicode code points in the stored text of one document version, newline
`\\n`.
For every chunk and citation `text[start:end]` is the chunk's text or the quote, always.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from typing import NewType

import numpy as np
from numpy.typing import NDArray

DocumentId = NewType("DocumentId", str)
ChunkId = NewType("ChunkId", str)
JobId = NewType("JobId", str)
Key = NewType("Key", int)
"""A chunk's number inside one generation: given once, never given again."""

LISTING = ("Files in this archive",)
"""The heading of an archive's own text, which names its files: it is found, and answers nothing."""

Vectors = NDArray[np.float32]
"""Shape (n, dim), float32."""
Keys = NDArray[np.int64]
"""Shape (n,), int64: chunk keys."""


class Script(StrEnum):
    """A text's writing; dense scores are only comparable within one (pipeline/analyze.py says how a text gets it)."""

    HAN = "han"
    LATIN = "latin"


class ElementKind(StrEnum):
    """What an element is on its page; `FURNITURE` (running headers, page numbers) is kept but never
    chunked.
    """

    HEADING = "heading"
    PARAGRAPH = "paragraph"
    LIST_ITEM = "list_item"
    TABLE = "table"
    CODE = "code"
    FURNITURE = "furniture"


class Leg(StrEnum):
    """The scores a hit can carry; `FUSED` is the score before reranking."""

    DENSE = "dense"
    WORDS = "words"
    PHRASE = "phrase"
    FUSED = "fused"
    RERANK = "rerank"


class SearchMode(StrEnum):
    """Which legs take part in a search."""

    HYBRID = "hybrid"
    DENSE = "dense"
    WORDS = "words"


class AnswerMode(StrEnum):
    """What an answer is made from: the best chunks, or whole documents."""

    AUTO = "auto"
    CHUNKS = "chunks"
    DOCUMENT = "document"


class Verdict(StrEnum):
    """Whether the cited words support a sentence."""

    SUPPORTED = "supported"
    WEAK = "weak"
    UNSUPPORTED = "unsupported"


class JobKind(StrEnum):
    """What a job does."""

    INGEST = "ingest"
    DELETE = "delete"
    REINDEX = "reindex"
    MERGE = "merge"
    BACKUP = "backup"
    WATCH = "watch"
    EXPIRE = "expire"
    SFT = "sft"
    EVALUATE = "evaluate"


class JobStatus(StrEnum):
    """Where a job stands."""

    QUEUED = "queued"
    RUNNING = "running"
    DONE = "done"
    FAILED = "failed"
    CANCELLED = "cancelled"
    DEAD = "dead"


@dataclass(frozen=True, slots=True)
class Box:
    """A rectangle on a page (counted from 1), as fractions of the page from its top left."""

    page: int
    x0: float
    y0: float
    x1: float
    y1: float


@dataclass(frozen=True, slots=True)
class Grid:
    """Where the cells of a table's text stand.

    Line i is row `rows[i]` and its j-th cell column `columns[j]`, both counted from 1 in the sheet or in the table.
    `labels[j]` is what the header says of that column; a table without a header has none. The first `header` lines
    are the header. `bars` are the offsets of each `|` that is part of a cell's words and parts no cells.
    `sheet` names a spreadsheet's sheet, "" where it has no name, None in other documents. `number` counts the
    document's tables from 1; it is 0 for what is no table.
    A table that goes on from the one above has that one's number, and its repeated header is not in its text but in
    `repeated`.
    """

    rows: tuple[int, ...]
    columns: tuple[int, ...]
    labels: tuple[str, ...] = ()
    header: int = 0
    bars: tuple[int, ...] = ()
    sheet: str | None = None
    number: int = 0
    repeated: str = ""


@dataclass(frozen=True, slots=True)
class TableRows:
    """A piece of a table in a chunk: `text[start:end]` of the chunk, its first line from cell `first` on.

    The bars of `grid` count from `start`.
    """

    start: int
    end: int
    grid: Grid
    first: int = 0


@dataclass(frozen=True, slots=True)
class Element:
    """One block that a parser read: its text (mended, `\\n` inside only where lines matter), kind and place.

    `heading` is the path of titles above it, outermost first. `level` is the depth of a HEADING (1
    is the outermost).
    A TABLE's text has one row a line, the header first; its `columns` are what the header says of them. `grid` says
    where its cells stand; a spreadsheet's captions have one too.
    `boxes` has one box a line of its page; the line in `boxes[i]` begins at `text[starts[i]]`.
    """

    text: str
    kind: ElementKind = ElementKind.PARAGRAPH
    page: int | None = None
    heading: tuple[str, ...] = ()
    level: int = 0
    columns: tuple[str, ...] = ()
    boxes: tuple[Box, ...] = ()
    grid: Grid | None = None
    starts: tuple[int, ...] = ()


@dataclass(frozen=True, slots=True)
class Parsed:
    """What a parser returns: elements in reading order, the document's own title if it has one, and
    its page count.
    """

    elements: tuple[Element, ...]
    title: str | None = None
    pages: int | None = None


@dataclass(frozen=True, slots=True)
class Chunk:
    """A piece of a document version that is embedded, found and cited; `context` is embedded too,
    never quoted. `tables` are the rows of tables in its text. `page` is where it begins; `turns` are
    (offset in its text, page) of each page that begins inside it.
    """

    id: ChunkId
    key: Key
    document: DocumentId
    name: str
    version: int
    text: str
    start: int
    end: int
    page: int | None
    heading: tuple[str, ...]
    context: str
    script: Script
    tables: tuple[TableRows, ...] = ()
    turns: tuple[tuple[int, int], ...] = ()


@dataclass(frozen=True, slots=True)
class Passage:
    """What an embedder reads of a chunk."""

    context: str
    text: str


@dataclass(frozen=True, slots=True)
class Embeddings:
    """Unit vectors (n, dim) and, where the embedder has them, the token vectors of each text
    (tokens, token_dim).
    """

    vectors: Vectors
    tokens: tuple[Vectors, ...] | None = None


@dataclass(frozen=True, slots=True)
class Query:
    """A search request. `documents` None means the whole collection."""

    text: str
    collection: str = "default"
    top_k: int = 10
    mode: SearchMode = SearchMode.HYBRID
    rerank: bool = True
    documents: tuple[DocumentId, ...] | None = None


@dataclass(frozen=True, slots=True)
class Hit:
    """A chunk and why it was found; `page` is that of its best sentence, where that is known to be another one."""

    chunk: Chunk
    score: float
    scores: Mapping[Leg, float] = field(default_factory=dict)
    page: int | None = None


@dataclass(frozen=True, slots=True)
class Span:
    """A half-open range of code points."""

    start: int
    end: int


@dataclass(frozen=True, slots=True)
class Message:
    """One turn of a conversation; `role` is system, user or assistant."""

    role: str
    content: str


@dataclass(frozen=True, slots=True)
class Sampling:
    """How tokens are chosen beside the temperature; None leaves it to the model.

    The penalties are subtracted from the score of a token that was written already: `presence`
    once, `frequency` for each time (OpenAI's definition). They never look at the prompt.
    """

    top_p: float | None = None
    top_k: int | None = None
    seed: int | None = None
    presence_penalty: float = 0.0
    frequency_penalty: float = 0.0


@dataclass(frozen=True, slots=True)
class Citation:
    """The exact words of a document version that support a sentence.

    `cells` is the range of the cells that they stand in (`Sheet1!A2:D2`), `table` the number of the table.
    """

    marker: int
    document: DocumentId
    name: str
    version: int
    chunk: ChunkId
    quote: str
    start: int
    end: int
    page: int | None
    heading: tuple[str, ...]
    boxes: tuple[Box, ...] = ()
    table: int | None = None
    cells: str | None = None


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence of an answer, the markers of its citations, and how well they support it (0 to 1)."""

    text: str
    markers: tuple[int, ...]
    support: float
    verdict: Verdict


@dataclass(frozen=True, slots=True)
class Usage:
    """Tokens read and written by a chat model; zero for an extractive answer."""

    prompt_tokens: int = 0
    completion_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Answer:
    """A finished answer. `refused` means that nothing found supports an answer; `text` then says
    so.
    """

    id: str
    text: str
    sentences: tuple[Sentence, ...]
    citations: tuple[Citation, ...]
    mode: AnswerMode
    refused: bool
    model: str
    usage: Usage = Usage()


@dataclass(frozen=True, slots=True)
class Job:
    """One piece of background work; its SQL row is the truth. `parent` is the job of the archive around its file.

    `collection` is "" where the work is of no single collection. `payload` is what was asked for, `result` what came of
    it: JSON objects, empty for files. `error_type` is the class of the error, where it is known.
    """

    id: JobId
    kind: JobKind
    status: JobStatus
    stage: str
    done: int
    total: int
    error: str | None
    collection: str
    document: DocumentId | None
    filename: str | None
    attempts: int
    created: float
    updated: float
    parent: JobId | None = None
    error_type: str | None = None
    payload: Mapping[str, object] = field(default_factory=dict)
    result: Mapping[str, object] = field(default_factory=dict)
