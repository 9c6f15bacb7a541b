"""The constant linear map that makes token vectors small enough to store."""

import hashlib
from dataclasses import dataclass
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from pipeline.errors import ModelUnavailable
from pipeline.types import Vectors

PACKAGED = Path(__file__).with_name("data") / "e5_projection.npz"


@dataclass(frozen=True, slots=True)
class Projection:
    """`matrix` (hidden, dim) has orthonormal columns. No mean is taken off: cosines stay what they were
    (centring ranked no better, docs/quality.md).
    """

    matrix: Vectors

    @property
    def dim(self) -> int:
        return int(self.matrix.shape[1])

    @property
    def sha256(self) -> str:
        """Of the values, so that a rewritten file of the same values counts as the same."""
        return hashlib.sha256(self.matrix.tobytes()).hexdigest()

    def apply(self, hidden: Vectors) -> Vectors:
        """Unit vectors (n, dim) of hidden states (n, hidden) of any length."""
        return unit(np.asarray(hidden @ self.matrix, dtype=np.float32))


def unit(vectors: Vectors) -> Vectors:
    """The same directions with length 1 along the last axis; zeros stay zeros."""
    lengths = np.sqrt(np.einsum("...d,...d->...", vectors, vectors))[..., None]
    return np.asarray(vectors / np.where(lengths > 0, lengths, 1.0), dtype=np.float32)


def load_projection(path: Path = PACKAGED) -> Projection:
    """Reads `matrix` (hidden, dim). Raises ModelUnavailable when it can't."""
    try:
        with path.open("rb") as file, np.load(file, allow_pickle=False) as stored:
            matrix = stored["matrix"].astype(np.float32)
    except (OSError, ValueError, KeyError, BadZipFile) as error:
        raise ModelUnavailable(
            f"The projection {path.name} can't be read. Install the package again."
        ) from error
    if matrix.ndim != 2 or matrix.shape[1] > matrix.shape[0]:
        raise ModelUnavailable(
            f"The projection {path.name} has wrong shapes. Install the package again."
        )
    return Projection(matrix)
