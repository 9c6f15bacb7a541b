"""The tables. SQL is the one owner of what exists: files without a row here are rubbish."""

import time
import uuid
from typing import Any

from sqlalchemy import (
    JSON,
    BigInteger,
    Column,
    Index,
    Integer,
    LargeBinary,
    Text,
    UniqueConstraint,
    false,
    true,
)
from sqlmodel import Field, SQLModel

BIG = BigInteger().with_variant(Integer(), "sqlite")
"""64 bits; SQLite's integers have them anyway."""
DATA = JSON(none_as_null=True)
"""A JSON object, or NULL."""


def new_id() -> str:
    """An opaque identifier."""
    return uuid.uuid4().hex


def known(row_id: int | None) -> int:
    """The id of a row that was flushed."""
    assert row_id is not None
    return row_id


class CollectionRow(SQLModel, table=True):
    """A collection; `epoch` rises with every change of what a search may see."""

    __tablename__ = "collection"

    id: str = Field(default_factory=new_id, primary_key=True)
    name: str = Field(unique=True)
    rerank: bool = True
    generation_id: int
    epoch: int = 0
    created: float = Field(default_factory=time.time)


class GenerationRow(SQLModel, table=True):
    """Vectors of one embedder and one chunking; `next_key` is the first chunk key never reserved.

    Chunks become live in the order of their keys. Which ones died at epochs up to `horizon` may be forgotten.
    `state` is building, live, previous or gone (indexer/index/generations.py).
    """

    __tablename__ = "generation"
    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    collection_id: str = Field(index=True)
    fingerprint: str
    chunking: str
    next_key: int = Field(default=0, sa_type=BIG)
    horizon: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    state: str = Field(default="live", sa_column_kwargs={"server_default": "live"})
    created: float = Field(default_factory=time.time)


class DocumentRow(SQLModel, table=True):
    """A name in a collection; `live_version_id` is the version that answers.

    `parent_id` is the archive or mail that it came out of, `source` the URL that it was fetched from.
    """

    __tablename__ = "document"
    __table_args__ = (UniqueConstraint("collection_id", "name"),)

    id: str = Field(default_factory=new_id, primary_key=True)
    collection_id: str = Field(index=True)
    name: str
    live_version_id: int | None = None
    parent_id: str | None = Field(default=None, index=True)
    source: str | None = None
    created: float = Field(default_factory=time.time)
    updated: float = Field(default_factory=time.time)


class VersionRow(SQLModel, table=True):
    """The bytes under a name; `status` is pending, expanded (its members are read), staged, live, superseded or
    failed.
    """

    __tablename__ = "version"
    __table_args__ = (
        UniqueConstraint("document_id", "number"),
        Index("version_status", "collection_id", "status"),
        {"sqlite_autoincrement": True},
    )

    id: int | None = Field(default=None, primary_key=True)
    document_id: str = Field(index=True)
    collection_id: str = Field(index=True)
    number: int
    sha256: str = Field(index=True)
    media_type: str
    size: int = Field(sa_type=BIG)
    status: str = "pending"
    title: str | None = None
    pages: int | None = None
    created: float = Field(default_factory=time.time)


class MemberRow(SQLModel, table=True):
    """A file inside a version of an archive or mail: the version that it became, or why it is not read.

    `name` is its path inside; `document_id` may be one that was there before, with the same bytes.
    """

    __tablename__ = "member"

    version_id: int = Field(primary_key=True)
    position: int = Field(primary_key=True)
    name: str
    document_id: str | None = Field(default=None, index=True)
    member_version_id: int | None = Field(default=None, index=True)
    error: str | None = None


class TextRow(SQLModel, table=True):
    """The stored text of a version, made once; `layout` is zlib-compressed JSON (indexer/text/stored.py)."""

    __tablename__ = "version_text"

    version_id: int = Field(primary_key=True)
    text: str = Field(sa_column=Column(Text, nullable=False))
    layout: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class SignatureRow(SQLModel, table=True):
    """What a version's text is compared by (indexer/catalog/minhash.py): 128 little-endian uint32."""

    __tablename__ = "signature"

    version_id: int = Field(primary_key=True)
    minhash: bytes = Field(sa_column=Column(LargeBinary, nullable=False))


class BandRow(SQLModel, table=True):
    """A part of a signature; versions that share one may be nearly the same."""

    __tablename__ = "band"
    __table_args__ = (Index("band_collection", "collection_id", "band"),)

    version_id: int = Field(primary_key=True)
    band: int = Field(primary_key=True, sa_type=BIG)
    collection_id: str


class SimilarRow(SQLModel, table=True):
    """A document that a version is nearly the same as, and the estimated share of what they share."""

    __tablename__ = "similar"

    version_id: int = Field(primary_key=True)
    other_id: str = Field(primary_key=True, index=True)
    share: float


class ChunkRow(SQLModel, table=True):
    """A live chunk; a row exists as long as a search may return it. `tables` is JSON (indexer/text/stored.py).

    `turns` is JSON, too: the offset and the page of each page that begins inside the chunk.
    """

    __tablename__ = "chunk"
    __table_args__ = (Index("chunk_document", "generation_id", "document_id", "key"),)

    generation_id: int = Field(primary_key=True)
    key: int = Field(primary_key=True, sa_type=BIG)
    version_id: int = Field(index=True)
    document_id: str
    text: str = Field(sa_column=Column(Text, nullable=False))
    start: int
    end: int
    page: int | None = None
    heading: str
    context: str
    script: str
    tables: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    turns: str | None = Field(default=None, sa_column=Column(Text, nullable=True))


class SegmentRow(SQLModel, table=True):
    """A segment folder of a generation; a search sees it once it is `published`.

    `dead` counts its rows that are not live (None: not counted yet), `merged` says that a merge makes it.
    """

    __tablename__ = "segment"
    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    generation_id: int = Field(index=True)
    rows: int
    published: bool = False
    dead: int | None = None
    merged: bool = Field(default=False, sa_column_kwargs={"server_default": false()})


class SpanRow(SQLModel, table=True):
    """`count` keys from `first` on, dead ones too, whose rows are in one published segment."""

    __tablename__ = "span"

    generation_id: int = Field(primary_key=True)
    first: int = Field(primary_key=True, sa_type=BIG)
    count: int = Field(sa_type=BIG)
    segment_id: int = Field(index=True)


class ReservationRow(SQLModel, table=True):
    """Keys given to a publish that has not committed; they are rubbish when their publish died."""

    __tablename__ = "reservation"

    generation_id: int = Field(primary_key=True)
    first: int = Field(primary_key=True, sa_type=BIG)
    count: int = Field(sa_type=BIG)


class TombstoneRow(SQLModel, table=True):
    """A key that stopped being live at an `epoch`; while `words`, it may still stand in the words index."""

    __tablename__ = "tombstone"
    __table_args__ = (
        Index("tombstone_epoch", "generation_id", "epoch"),
        Index("tombstone_words", "generation_id", "words"),
    )

    generation_id: int = Field(primary_key=True)
    key: int = Field(primary_key=True, sa_type=BIG)
    epoch: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    words: bool = Field(default=True, sa_column_kwargs={"server_default": true()})


class PlaceRow(SQLModel, table=True):
    """A generation that is searched in Milvus (indexer/milvus); one without such a row is searched in the data folder.

    `name` is its collection there, `mean` the number of terms that a chunk's length is compared with. The row outlives
    its generation until the collection is dropped.
    """

    __tablename__ = "place"

    generation_id: int = Field(primary_key=True)
    name: str
    mean: float


class WordRow(SQLModel, table=True):
    """A term of a generation in Milvus: its number there, and how many rows hold it."""

    __tablename__ = "word"
    __table_args__ = (Index("word_number", "generation_id", "number", unique=True),)

    generation_id: int = Field(primary_key=True)
    term: str = Field(primary_key=True)
    number: int = Field(sa_type=BIG)
    rows: int = Field(default=0, sa_type=BIG)


class LeaseRow(SQLModel, table=True):
    """Who may do something alone, and until when; `token` rises with every owner and fences off the last one."""

    __tablename__ = "lease"

    name: str = Field(primary_key=True)
    owner: str
    token: int
    until: float


class JobRow(SQLModel, table=True):
    """One piece of background work; the row is the truth, the broker only carries its id.

    `collection_id` is "" for work that is of no collection, or outlives it. No API shows `traceback`.
    `parent_id` is the job of the archive or mail whose member this one reads. A lower `priority` goes first
    (indexer/jobs/jobs.py). `lost` counts the attempts whose worker died.
    """

    __tablename__ = "job"
    __table_args__ = (
        Index("job_status", "status", "created"),
        Index("job_turn", "status", "priority", "collection_id", "created", "not_before"),
    )

    id: str = Field(default_factory=new_id, primary_key=True)
    kind: str
    status: str = "queued"
    stage: str = ""
    done: int = 0
    total: int = 0
    error: str | None = None
    error_type: str | None = None
    collection_id: str = Field(index=True)
    collection: str
    document_id: str | None = Field(default=None, index=True)
    version_id: int | None = None
    parent_id: str | None = Field(default=None, index=True)
    filename: str | None = None
    payload: dict[str, Any] | None = Field(default=None, sa_type=DATA)
    result: dict[str, Any] | None = Field(default=None, sa_type=DATA)
    traceback: str | None = Field(default=None, sa_column=Column(Text, nullable=True))
    priority: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    attempts: int = 0
    lost: int = Field(default=0, sa_column_kwargs={"server_default": "0"})
    token: int = 0
    lease_until: float | None = None
    sent: float | None = None
    not_before: float | None = None
    created: float = Field(default_factory=time.time)
    updated: float = Field(default_factory=time.time)


class ScheduleRow(SQLModel, table=True):
    """A job that begins by the clock (indexer/jobs/times.py); `collection_id` is "" for work that is of none."""

    __tablename__ = "schedule"

    id: str = Field(default_factory=new_id, primary_key=True)
    kind: str
    collection_id: str = Field(index=True)
    when: str
    zone: str
    payload: dict[str, Any] | None = Field(default=None, sa_type=DATA)
    next: float = Field(index=True)
    last: float | None = None
    job_id: str | None = None
    created: float = Field(default_factory=time.time)


class WatchedRow(SQLModel, table=True):
    """A file of a watched folder when its bytes were taken; `folder_key` is the SHA-256 of the folder's path.

    `document_id` is "" where the document is another's, and does not go with the file.
    """

    __tablename__ = "watched"

    collection_id: str = Field(primary_key=True)
    folder_key: str = Field(primary_key=True)
    name: str = Field(primary_key=True)
    size: int = Field(sa_type=BIG)
    changed_ns: int = Field(sa_type=BIG)
    sha256: str
    document_id: str = Field(index=True)


class RecentQueryRow(SQLModel, table=True):
    """Words that a collection was searched for, once each; `asked` is the last time (indexer/catalog/recent.py)."""

    __tablename__ = "recent_query"
    __table_args__ = (Index("recent_query_asked", "collection_id", "asked"),)

    collection_id: str = Field(primary_key=True)
    sha256: str = Field(primary_key=True)
    text: str = Field(sa_column=Column(Text, nullable=False))
    asked: float


class QuestionRow(SQLModel, table=True):
    """A question that a collection is judged by (indexer/catalog/questions.py).

    `passage` are words of what answers it, None where any passage of the expected documents does.
    """

    __tablename__ = "question"
    __table_args__ = {"sqlite_autoincrement": True}

    id: int | None = Field(default=None, primary_key=True)
    collection_id: str = Field(index=True)
    text: str = Field(sa_column=Column(Text, nullable=False))
    passage: str | None = Field(default=None, sa_column=Column(Text, nullable=True))


class ExpectedRow(SQLModel, table=True):
    """A document that answers a question; a question without one is removed."""

    __tablename__ = "expected"

    question_id: int = Field(primary_key=True)
    document_id: str = Field(primary_key=True, index=True)
