"""What is done of a version before it is staged, so that a job that begins again goes on where it was.

Beside the staged files: what the parser read, and one file of embedded rows a claim. Both are only ever a help: what is
missing or broken is done again, and they never take the disk's last room, which the database and the index need.
"""

import contextlib
import hashlib
import shutil
import struct
import zlib
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from indexer.parse.wire import decode_parsed, encode_parsed
from pipeline.types import Parsed, Passage

_HEAD = struct.Struct("<16s16sIIII")
"""Digests of embedder and passage, dimensions, tokens, their width, CRC-32 of what follows."""

_ROOM = 200 * 2**20


@dataclass(frozen=True, slots=True, eq=False)
class Row:
    """A passage's `vector` (dim,) float16 and its `tokens` (tokens, token_dim) int8, None where it has none."""

    vector: NDArray[np.float16]
    tokens: NDArray[np.int8] | None


class Unfinished:
    """The unfinished work at `staged`, the path of a version's staged files. `token` is the claim's."""

    def __init__(self, staged: Path, *, token: int, fingerprint: str) -> None:
        self._parsed = staged.with_suffix(".parsed")
        self._rows = staged.with_suffix(f".{token}.rows")
        self._embedder = _digest(fingerprint)

    def parsed(self) -> Parsed | None:
        """What `keep_parsed` was given; None when there is nothing, or it is broken."""
        try:
            return decode_parsed(zlib.decompress(self._parsed.read_bytes()))
        except (OSError, ValueError, zlib.error):
            return None

    def keep_parsed(self, parsed: Parsed) -> None:
        """Keep what a parser took long for."""
        temporary = self._parsed.with_suffix(".parsed.tmp")
        with contextlib.suppress(OSError):
            if not _has_room(self._parsed):
                return
            temporary.parent.mkdir(parents=True, exist_ok=True)
            temporary.write_bytes(zlib.compress(encode_parsed(parsed), 1))
            temporary.replace(self._parsed)

    def rows(self) -> Mapping[bytes, Row]:
        """The rows that any claim of this version kept, by `digest_of` their passages."""
        found: dict[bytes, Row] = {}
        name = self._rows.name.split(".")[0]
        for path in sorted(self._rows.parent.glob(f"{name}.*.rows")):
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


def _has_room(path: Path) -> bool:
    there = next(folder for folder in path.parents if folder.exists())
    return shutil.disk_usage(there).free > _ROOM


def digest_of(passage: Passage) -> bytes:
    """Of a passage as it is embedded, 16 bytes."""
    return _digest(f"{passage.context}\0{passage.text}")


def _digest(text: str) -> bytes:
    return hashlib.blake2b(text.encode("utf-8", "surrogatepass"), digest_size=16).digest()
