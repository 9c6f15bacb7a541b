"""What is done of a version before it is staged, so that a job that begins again goes on where it was.

Beside the staged files: what the parser read, and of each claim a file of pages and one of embedded rows. They are only
ever a help: what is missing or broken is done again, and they never take the disk's last room, which the database and
the index need.
"""

import contextlib
import hashlib
import shutil
import struct
import time
import zlib
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.parse.wire import decode_parsed, encode_parsed
from pipeline.types import Parsed, Passage

_HEAD = struct.Struct("<16s16sIIII")
"""Digests of embedder and passage, dimensions, tokens, their width, CRC-32 of what follows."""

_PAGES = struct.Struct("<IIIII")
"""First page, the one behind the last, the document's pages, bytes that follow and their CRC-32."""

_ROOM = 200 * 2**20
SLOW_S = 1.0
"""What a parser took longer for is kept until the version is staged."""


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A passage's `vector` (dim,) float16 and its `tokens` (tokens, token_dim) int8, None where it has none."""

    vector: NDArray[np.float16]
    tokens: NDArray[np.int8] | None


class Unfinished:
    """The unfinished work at `staged`, the path of a version's staged files. `token` is the claim's."""

    def __init__(self, staged: Path, *, token: int, fingerprint: str) -> None:
        self._parsed = staged.with_suffix(".parsed")
        self._pages = staged.with_suffix(f".{token}.pages")
        self._rows = staged.with_suffix(f".{token}.rows")
        self._embedder = _digest(fingerprint)

    def parsed(self) -> Parsed | None:
        """What `keep_parsed` was given; None when there is nothing, or it is broken."""
        try:
            return decode_parsed(zlib.decompress(self._parsed.read_bytes()))
        except (OSError, ValueError, zlib.error):
            return None

    def pages(self, say: Callable[[int, int], None]) -> "KeptPages":
        """The pages that any claim of this version kept, and where this one's are noted."""
        return KeptPages(self._pages, say)

    def keep_parsed(self, parsed: Parsed) -> None:
        """Keep what a parser took long for, in place of its pages."""
        temporary = self._parsed.with_suffix(".parsed.tmp")
        with contextlib.suppress(OSError):
            if not _has_room(self._parsed):
                return
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(zlib.compress(encode_parsed(parsed), 1))
            temporary.replace(self._parsed)
            for path in _of_all_claims(self._pages):
                path.unlink(missing_ok=True)

    def rows(self) -> Mapping[bytes, Row]:
        """The rows that any claim of this version kept, by `digest_of` their passages."""
        found: dict[bytes, Row] = {}
        for path in _of_all_claims(self._rows):
            with contextlib.suppress(OSError):
                found.update(self._read(path.read_bytes()))
        return found

    def keep_rows(
        self,
        passages: Sequence[Passage],
        vectors: NDArray[np.float16],
        tokens: Sequence[NDArray[np.int8]] | None,
    ) -> None:
        """Append the rows of some passages, `vectors` (n, dim)."""
        pieces = bytearray()
        for i, passage in enumerate(passages):
            codes = tokens[i] if tokens is not None else np.zeros((0, 0), np.int8)
            body = vectors[i].tobytes() + codes.tobytes()
            pieces += _HEAD.pack(
                self._embedder, digest_of(passage), len(vectors[i]), *codes.shape, zlib.crc32(body)
            )
            pieces += body
        with contextlib.suppress(OSError):
            if not _has_room(self._rows):
                return
            self._rows.parent.mkdir(parents=True, exist_ok=True)
            with self._rows.open("ab") as file:
                file.write(pieces)

    def _read(self, data: bytes) -> Iterator[tuple[bytes, Row]]:
        """Up to the first row that is cut off or broken."""
        at = 0
        while at + _HEAD.size <= len(data):
            embedder, passage, dim, count, width, crc = _HEAD.unpack_from(data, at)
            at += _HEAD.size
            body = data[at : at + 2 * dim + count * width]
            at += len(body)
            if len(body) != 2 * dim + count * width or zlib.crc32(body) != crc:
                return
            if embedder != self._embedder:
                continue
            vector = np.frombuffer(body, "<f2", dim)
            codes = np.frombuffer(body, np.int8, count * width, 2 * dim).reshape(count, width)
            yield passage, Row(vector, codes if width else None)


class KeptPages:
    """Implements `pipeline.ports.Pages` on a file a claim; `say` is told how many pages are read, of how many."""

    def __init__(self, path: Path, say: Callable[[int, int], None]) -> None:
        self._path = path
        self._say = say
        self._begun = time.monotonic()
        self._done = self._total = 0

    def begin(self, total: int) -> list[tuple[range, bytes]]:
        found: list[tuple[range, bytes]] = []
        seen: set[int] = set()
        for path in _of_all_claims(self._path):
            with contextlib.suppress(OSError):
                for pages, read in _pages_in(path.read_bytes(), total):
                    if seen.isdisjoint(pages):
                        seen.update(pages)
                        found.append((pages, read))
        self._done, self._total = len(seen), total
        self._say(self._done, total)
        return found

    def note(self, pages: range, read: bytes) -> None:
        """The pages of the first second are not kept: most documents have no more."""
        self._done += len(pages)
        if time.monotonic() - self._begun > SLOW_S:
            body = zlib.compress(read, 1)
            head = _PAGES.pack(pages.start, pages.stop, self._total, len(body), zlib.crc32(body))
            with contextlib.suppress(OSError):
                if _has_room(self._path):
                    self._path.parent.mkdir(parents=True, exist_ok=True)
                    with self._path.open("ab") as file:
                        file.write(head + body)
        self._say(self._done, self._total)


def _pages_in(data: bytes, total: int) -> Iterator[tuple[range, bytes]]:
    """Up to the first piece that is cut off or broken, or of a document of other pages."""
    at = 0
    while at + _PAGES.size <= len(data):
        first, end, of, size, crc = _PAGES.unpack_from(data, at)
        at += _PAGES.size
        body = data[at : at + size]
        at += size
        if len(body) != size or zlib.crc32(body) != crc or of != total or not first < end <= of:
            return
        yield range(first, end), zlib.decompress(body)


def _of_all_claims(path: Path) -> list[Path]:
    """The files beside a claim's that are the same of the version's other claims, and this one."""
    version = path.name.split(".")[0]
    return sorted(path.parent.glob(f"{version}.*{path.suffix}"))


def _has_room(path: Path) -> bool:
    there = next(folder for folder in path.parents if folder.exists())
    return shutil.disk_usage(there).free > _ROOM


def digest_of(passage: Passage) -> bytes:
    """Of a passage as it is embedded, 16 bytes."""
    return _digest(f"{passage.context}\0{passage.text}")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
