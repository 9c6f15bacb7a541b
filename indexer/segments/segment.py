"""Segments: immutable folders that hold the rows of some documents.

Everything in a segment follows from its raw vectors: several are merged, or one is rewritten, without
embedding again. Readers map the files, so a folder may be removed while they read it.
"""

import threading
import weakref
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from indexer.segments.files import (
    Rows,
    check_files,
    damaged,
    load_array,
    read_manifest,
    write_files,
)
from indexer.segments.ivf import DEFAULT_RULE, IndexRule, read_ivf
from indexer.segments.rows import FlatRows, ListedRows, RowIndex
from indexer.segments.staged import SCRIPTS, Staged, read_staged, write_staged
from pipeline.types import Keys

__all__ = [
    "IndexRule",
    "Segment",
    "SegmentCache",
    "Staged",
    "merge_segments",
    "read_staged",
    "to_merge",
    "write_segment",
    "write_staged",
]

FAN_IN = 8
LARGE_ROWS = 4096
LARGE_FAN_IN = 3
DEAD_SHARE = 0.1
BLOCK = 8192


def write_segment(
    folder: Path,
    keys: Keys,
    rows: Sequence[Staged],
    *,
    fingerprint: str,
    rule: IndexRule = DEFAULT_RULE,
) -> None:
    """Write the rows of several document versions as one segment; `keys` (n,) strictly ascending.

    Raises Unavailable when the disk refuses. A `folder` that exists is a bug (FileExistsError):
    sweep what a crash left before its number is given again.
    """
    if not rows or sum(len(staged) for staged in rows) != len(keys):
        raise ValueError("a segment needs one key for each of its rows")
    lengths = np.concatenate([staged.token_lengths for staged in rows])
    scripts = np.concatenate([staged.script_codes for staged in rows])
    dims = {staged.token_dim for staged in rows} - {None}
    tokens = chain.from_iterable(staged.tokens or () for staged in rows)
    (dim,) = {staged.vectors.shape[1] for staged in rows}
    written = Rows(
        keys, scripts, lengths, dim, _one(dims), (staged.vectors for staged in rows), tokens
    )
    write_files(folder, written, fingerprint=fingerprint, rule=rule)


def merge_segments(
    segments: Sequence["Segment"],
    live: Keys,
    folder: Path,
    *,
    fingerprint: str,
    rule: IndexRule = DEFAULT_RULE,
    breathe: Callable[[], None] = lambda: None,
) -> int:
    """Write one segment of the live rows of several, in the order of their keys; return how many.

    `breathe` runs before each block of them, and may raise: then nothing is left of it.
    """
    if not segments:
        raise ValueError("nothing to merge")
    found = [segment.rows_of(live) for segment in segments]
    keys = np.concatenate([s.keys[rows] for s, rows in zip(segments, found, strict=True)])
    order = np.argsort(keys, kind="stable")
    owners = np.repeat(np.arange(len(segments)), [len(rows) for rows in found])[order]
    places = np.concatenate(found)[order]

    def gather(name: str, at: slice) -> NDArray[Any]:
        first = getattr(segments[0], name)
        values = np.empty((len(places[at]), *first.shape[1:]), first.dtype)
        breathe()
        for owner in np.unique(owners[at]):
            mine = owners[at] == owner
            values[mine] = getattr(segments[owner], name)[places[at][mine]]
        return values

    stored = (
        segments[owner].tokens_of(row)
        for owner, row in zip(owners.tolist(), places.tolist(), strict=True)
    )
    written = Rows(
        keys[order],
        gather("scripts", slice(None)),
        gather("token_lengths", slice(None)),
        segments[0].dim,
        _one({segment.token_dim for segment in segments} - {None}),
        (gather("vectors", slice(at, at + BLOCK)) for at in range(0, len(places), BLOCK)),
        (codes for codes in stored if codes is not None),
    )
    write_files(folder, written, fingerprint=fingerprint, rule=rule)
    return len(keys)


def to_merge(sizes: Mapping[int, int], dead: Mapping[int, int] | None = None) -> tuple[int, ...]:
    """The segments to merge next, by id, or () when all is well. `sizes` and `dead` count rows.

    A segment's class is the whole part of log8 of its live rows, and from 4,096 on of log3 of every
    4,096. Eight of a class become one, or three of the large: it is then in a higher class. So at most
    seven small segments a class and two large ones stay, and a row is rewritten at most once a class. A
    search asks each segment, and a large one costs more than it holds; so there are fewer of those, for
    more rewriting behind uploads. After that, a segment with more than a tenth of its rows dead is
    rewritten alone, which costs at most ten written rows a dead one.
    """
    gone = dead or {}
    classes: dict[tuple[int, int], list[int]] = {}
    for segment, size in sizes.items():
        live = size - gone.get(segment, 0)
        classes.setdefault(_class(live), []).append(segment)
    for (large, _), members in sorted(classes.items()):
        if len(members) >= (LARGE_FAN_IN if large else FAN_IN):
            return tuple(sorted(members))
    for segment in sorted(sizes):
        if gone.get(segment, 0) > DEAD_SHARE * sizes[segment]:
            return (segment,)
    return ()


@dataclass(frozen=True, slots=True, eq=False, weakref_slot=True)
class Segment:
    """A segment opened for reading; vectors, tokens and lists stay on disk, mapped into memory.

    `keys` (n,) ascending; `vectors` (n, dim) float16; `scripts` (n,) places in SCRIPTS; `sums`
    (scripts, dim) float64 and `counts` (scripts,) of all rows, dead ones too; `index` searches the
    rows, `index_told` is what the manifest says of it (its type; of lists also how many, how many are
    probed and the recall measured), `flat` searches them exactly; `offsets` (n + 1,) and `tokens` (sum
    of tokens, token_dim) int8, or None.
    """

    folder: Path
    dim: int
    token_dim: int | None
    keys: Keys
    vectors: NDArray[np.float16]
    scripts: NDArray[np.uint8]
    sums: NDArray[np.float64]
    counts: NDArray[np.int64]
    index: RowIndex
    index_told: Mapping[str, Any]
    flat: FlatRows
    offsets: NDArray[np.int64] | None
    tokens: NDArray[np.int8] | None

    @classmethod
    def open(cls, folder: Path, *, fingerprint: str, verify: bool = False) -> Self:
        """Check the manifest and map the files; `verify` reads every byte against its checksum.

        Raises IndexMismatch when another embedder wrote it, DamagedIndex when it is gone, or a file
        is missing, short or changed.
        """
        manifest = read_manifest(folder, fingerprint)
        rows, dim, token_dim = manifest["rows"], manifest["dim"], manifest["token_dim"]
        check_files(folder, manifest["files"], verify=verify)
        some = token_dim is not None
        told: dict[str, Any] = manifest.get("index", {"type": "flat"})  # format 1 knew no other
        vectors = load_array(folder, "vectors", mapped=rows > 0)
        if vectors.shape != (rows, dim):
            raise damaged(folder, "its files do not fit each other")
        flat = FlatRows(vectors)
        segment = cls(
            folder,
            dim,
            token_dim,
            load_array(folder, "keys"),
            vectors,
            load_array(folder, "scripts"),
            load_array(folder, "sums"),
            np.array(manifest["counts"], np.int64),
            flat if told["type"] == "flat" else _read_lists(folder, told, vectors, flat),
            told,
            flat,
            load_array(folder, "token_offsets") if some else None,
            load_array(folder, "tokens", mapped=manifest["tokens"] > 0) if some else None,
        )
        shapes = (segment.keys.shape, segment.scripts.shape)
        if shapes != ((rows,), (rows,)) or segment.sums.shape != (len(SCRIPTS), dim):
            raise damaged(folder, "its files do not fit each other")
        return segment

    def __len__(self) -> int:
        return len(self.keys)

    @property
    def token_lengths(self) -> NDArray[np.int64]:
        """Token vectors of each row (n,), 0 where none are stored."""
        return np.zeros(len(self), np.int64) if self.offsets is None else np.diff(self.offsets)

    def tokens_of(self, row: int) -> NDArray[np.int8] | None:
        """The codes (tokens, token_dim) of one row, None where none are stored."""
        if self.tokens is None or self.offsets is None:
            return None
        start, end = self.offsets[row], self.offsets[row + 1]
        return self.tokens[start:end] if end > start else None

    def rows_of(self, live: Keys) -> NDArray[np.int64]:
        """The rows whose keys are in `live` (sorted), ascending."""
        if not len(live):
            return np.empty(0, np.int64)
        at = np.minimum(np.searchsorted(live, self.keys), len(live) - 1)
        return np.flatnonzero(live[at] == self.keys)


class SegmentCache:
    """Opened segments, each kept for as long as some snapshot holds it."""

    def __init__(self) -> None:
        self._opened: weakref.WeakValueDictionary[tuple[Path, str], Segment] = (
            weakref.WeakValueDictionary()
        )
        self._lock = threading.Lock()

    def open(self, folder: Path, *, fingerprint: str) -> Segment:
        """The segment of this folder, opened only if no snapshot holds it. Raises as Segment.open."""
        with self._lock:
            segment = self._opened.get((folder, fingerprint))
            if segment is None:
                segment = Segment.open(folder, fingerprint=fingerprint)
                self._opened[folder, fingerprint] = segment
            return segment


def _class(live: int) -> tuple[int, int]:
    """Whether so many rows are many, and the class among such segments."""
    if live < LARGE_ROWS:
        return 0, (live.bit_length() - 1) // 3 if live else -1
    power = 0
    while live >= LARGE_ROWS * LARGE_FAN_IN ** (power + 1):
        power += 1
    return 1, power


def _read_lists(
    folder: Path, told: Mapping[str, Any], vectors: NDArray[np.float16], flat: FlatRows
) -> ListedRows:
    try:
        index = read_ivf(folder)
    except RuntimeError as error:
        raise damaged(folder, "its FAISS index cannot be read") from error
    if (index.ntotal, index.d) != vectors.shape:
        raise damaged(folder, "its FAISS index does not fit its vectors")
    return ListedRows(index, told["nprobe"], flat)


def _one(dims: set[int | None]) -> int | None:
    """The width of the token vectors, which all rows that have some share."""
    if not dims:
        return None
    (dim,) = dims
    return dim
