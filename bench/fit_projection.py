"""Fits the projection of token vectors: python -m bench.fit_projection MODELS TEXT...

MODELS is the folder of models; a TEXT is a .txt or .md file, or a folder of them, with a blank line
between paragraphs. Writes models/data/e5_projection.npz. The result is part of the embedder's
fingerprint: every index made before no longer fits.
"""

import argparse
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from models.bundled import ensure_e5
from models.e5_engine import HIDDEN, E5Engine, Output, Side, batches
from models.projection import PACKAGED, Projection, load_projection, unit
from pipeline.types import Vectors

DIM = 96
LARGEST_PASSAGE = 300


def main() -> None:
    arguments = _arguments()
    engine = E5Engine.load(ensure_e5(arguments.models), threads=arguments.threads)
    texts = list(paragraphs(arguments.texts))
    tokens = list(token_vectors(engine, texts))
    projection = fit(tokens, DIM)
    store(projection, arguments.output)
    stored = load_projection(arguments.output)
    sample = np.concatenate(tokens)[::7]
    print(f"{len(texts)} paragraphs, {sum(map(len, tokens))} tokens")
    print(f"{kept(sample, stored):.3f} of the variance kept in {DIM} dimensions")
    print(f"{arguments.output} {arguments.output.stat().st_size} bytes, {stored.sha256[:16]}")


def paragraphs(paths: Sequence[Path]) -> Iterator[str]:
    """Blocks between blank lines, in the order of the files' names, each once."""
    files = [
        file for path in paths for file in (sorted(path.rglob("*")) if path.is_dir() else [path])
    ]
    blocks = (
        " ".join(block.split())
        for file in files
        if file.suffix in {".txt", ".md"}
        for block in file.read_text(encoding="utf-8").split("\n\n")
    )
    yield from dict.fromkeys(block for block in blocks if block)


def token_vectors(engine: E5Engine, texts: Iterable[str]) -> Iterator[Vectors]:
    """Middle states (t, 384) of each text, cut after LARGEST_PASSAGE tokens."""
    rows = [engine.ids(text, Side.PASSAGE) for text in texts]
    rows = [
        row if len(row) <= LARGEST_PASSAGE else [*row[: LARGEST_PASSAGE - 1], row[-1]]
        for row in rows
    ]
    for batch in batches([len(row) for row in rows]):
        for encoded in engine.encode([rows[i] for i in batch], Side.PASSAGE, Output.MIDDLE):
            yield encoded.states


def fit(tokens: Sequence[Vectors], dim: int) -> Projection:
    """The directions (right singular vectors) in which the unit vectors are longest, the longest first.

    Half precision is what is stored, so it is what is returned.
    """
    vectors = unit(np.concatenate(tokens)).astype(np.float64)
    _values, components = np.linalg.eigh(vectors.T @ vectors)
    largest = components[:, ::-1][:, :dim]
    # The sign of a component is arbitrary; fix it, so that two machines write the same file.
    signs = np.sign(largest[np.abs(largest).argmax(axis=0), np.arange(dim)])
    return Projection((largest * signs).astype(np.float16).astype(np.float32))


def kept(vectors: Vectors, projection: Projection) -> float:
    """The share of the variance about the mean that the projection keeps."""
    centred = unit(vectors)
    centred -= centred.mean(axis=0)
    return float(np.square(centred @ projection.matrix).sum() / np.square(centred).sum())


def store(projection: Projection, path: Path) -> None:
    """Writes what `models.projection.load_projection` reads."""
    assert projection.matrix.shape[0] == HIDDEN
    np.savez(path, matrix=projection.matrix.astype(np.float16))


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("models", type=Path)
    parser.add_argument("texts", type=Path, nargs="+")
    parser.add_argument("--output", type=Path, default=PACKAGED)
    parser.add_argument("--threads", type=int, default=2)
    return parser.parse_args()


if __name__ == "__main__":
    main()
