"""Unit vectors in one byte a dimension, for token vectors in the index."""

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Vectors

LARGEST = 127


def quantise(tokens: Vectors) -> NDArray[np.int8]:
    """Codes of the same shape (n, dim), int8. Each vector is stretched until its largest component is 127.

    Only the direction is kept; the stretch needs no storing because `dequantise` restores length 1.
    A zero vector stays zero.
    """
    largest = np.abs(tokens).max(axis=-1, keepdims=True, initial=0.0)
    stretch = LARGEST / np.where(largest > 0, largest, 1.0)
    return np.rint(tokens * stretch).astype(np.int8)


def dequantise(codes: NDArray[np.int8]) -> Vectors:
    """Unit vectors (n, dim), float32, in the direction of the codes (n, dim); zero codes give zeros."""
    vectors = codes.astype(np.float32)
    lengths = np.sqrt(np.einsum("...d,...d->...", vectors, vectors))[..., None]
    vectors /= np.where(lengths > 0, lengths, np.float32(1.0))
    return vectors
