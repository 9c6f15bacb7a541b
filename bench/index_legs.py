"""How long a search of each leg takes, beside plain FAISS and plain numpy.

Run: python -m bench.index_legs [rows ...]   (10000 and 100000 unless told)

Rows are random unit vectors of 384 dimensions in segments as uploads leave them, and texts of 50 to
150 terms drawn by Zipf's law. Every figure is the median of many searches for the best 200, in milliseconds, on
one thread.
"""

import random
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import TypeVar

import numpy as np

from indexer.segments.rows import load_faiss
from indexer.segments.segment import Segment, Staged, merge_segments, to_merge, write_segment
from indexer.segments.vectors import SegmentedVectors
from indexer.segments.words import WordSearcher, WordWriter
from pipeline.types import Keys, Script, Vectors

DIM, K, UPLOAD, LENGTH, FINGERPRINT = 384, 200, 500, 150, "bench"
Query = TypeVar("Query")


def main(sizes: list[int]) -> None:
    """Print one markdown table."""
    columns = [_column(size) for size in sizes]
    print(
        "| search for the best 200, ms | " + " | ".join(f"{size:,} rows" for size in sizes) + " |"
    )
    print("|---" * (len(sizes) + 1) + "|")
    for name in columns[0]:
        print(f"| {name} | " + " | ".join(f"{column[name]:.2f}" for column in columns) + " |")


def _column(size: int) -> dict[str, float]:
    dice = np.random.default_rng(0)
    vectors = dice.standard_normal((size, DIM), dtype=np.float32)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    queries = dice.standard_normal((16, DIM), dtype=np.float32)
    queries /= np.linalg.norm(queries, axis=1, keepdims=True)
    with tempfile.TemporaryDirectory() as folder:
        return {
            **_dense(Path(folder), vectors, queries),
            **_words(Path(folder) / "words", size),
        }


def _dense(folder: Path, vectors: Vectors, queries: Vectors) -> dict[str, float]:
    size = len(vectors)
    dice = np.random.default_rng(1)
    keys = np.arange(size)
    segments = _segments(folder, vectors)
    merge_segments(segments, keys, folder / "whole", fingerprint=FINGERPRINT)
    whole = SegmentedVectors([Segment.open(folder / "whole", fingerprint=FINGERPRINT)], keys)
    parts = SegmentedVectors(segments, keys)
    dead = SegmentedVectors(segments, keys[dice.random(size) > 0.1])
    half, few = keys[dice.random(size) < 0.5], np.sort(dice.choice(keys, 1000, replace=False))
    some = np.sort(dice.choice(keys, 5000, replace=False))
    exact = SegmentedVectors(segments, keys, exact_rows=size)
    faiss = load_faiss()
    flat = faiss.IndexFlatIP(DIM)
    flat.add(vectors)

    def numpy_search(query: Vectors) -> None:
        scores = vectors @ query
        np.argsort(-scores[np.argpartition(-scores, K)[:K]])

    def faiss_search(query: Vectors) -> None:
        flat.search(query[None], K)

    def leg(index: SegmentedVectors, allowed: Keys | None = None) -> Callable[[Vectors], object]:
        return lambda query: index.search(query, K, allowed)

    searches: dict[str, Callable[[Vectors], object]] = {
        "plain numpy, float32": numpy_search,
        "plain FAISS flat, float32": faiss_search,
        "dense, one segment": leg(whole),
        "dense, segments as uploads leave them": leg(parts),
        "the same, a tenth of the rows dead": leg(dead),
        "the same, half of the rows allowed": leg(parts, half),
        "the same, 5,000 rows allowed": leg(parts, some),
        "the same, 5,000 rows allowed, from raw vectors": leg(exact, some),
        "the same, 1,000 rows allowed": leg(parts, few),
        "exact scores of 400 rows": lambda query: parts.score(query, few[:400]),
    }
    print(f"{size:,} rows lie in {len(segments)} segments", file=sys.stderr)
    return {name: _median(search, list(queries)) for name, search in searches.items()}


def _segments(folder: Path, vectors: Vectors) -> list[Segment]:
    """Uploads of 500 rows, merged by the policy."""
    opened: dict[int, Segment] = {}
    keys = np.arange(len(vectors))
    for number, path in _numbered(folder):
        sizes = {name: len(segment) for name, segment in opened.items()}
        done = sum(sizes.values())
        if chosen := to_merge(sizes):
            merge_segments([opened.pop(i) for i in chosen], keys, path, fingerprint=FINGERPRINT)
        elif done < len(vectors):
            rows = vectors[done : done + UPLOAD].astype(np.float16)
            staged = Staged(rows, None, (Script.HAN,) * len(rows))
            write_segment(path, keys[done : done + len(rows)], [staged], fingerprint=FINGERPRINT)
        else:
            break
        opened[number] = Segment.open(path, fingerprint=FINGERPRINT)
    return list(opened.values())


def _numbered(folder: Path) -> Iterator[tuple[int, Path]]:
    number = 0
    while True:
        yield number, folder / str(number)
        number += 1


def _words(folder: Path, size: int) -> dict[str, float]:
    dice = random.Random(0)
    vocabulary = [f"t{i}" for i in range(30_000)]
    drawn = _zipf(size * LENGTH, len(vocabulary))
    with WordWriter.open(folder) as writer:
        for key in range(size):
            writer.add(key, (vocabulary[i] for i in islice(drawn, dice.randint(50, LENGTH))))
        writer.commit()
    keys = np.arange(size)
    searcher = WordSearcher(folder, keys)
    half = keys[np.random.default_rng(2).random(size) < 0.5]
    some = np.sort(np.random.default_rng(3).choice(keys, 2000, replace=False))

    def questions(terms: int) -> list[dict[str, float]]:
        return [dict.fromkeys(dice.sample(vocabulary[:5000], terms), 1 / terms) for _ in range(16)]

    return {
        "words, 12 terms": _median(lambda q: searcher.search(q, K, None), questions(12)),
        "words, 200 terms": _median(lambda q: searcher.search(q, K, None), questions(200)),
        "words, 12 terms, half allowed": _median(
            lambda q: searcher.search(q, K, half), questions(12)
        ),
        "words, 12 terms, 2,000 rows allowed": _median(
            lambda q: searcher.search(q, K, some), questions(12)
        ),
        "words, scores of 400 rows, 12 terms": _median(
            lambda q: searcher.score(q, some[:400]), questions(12)
        ),
    }


def _zipf(count: int, words: int) -> Iterator[int]:
    shares = 1 / np.arange(3, words + 3)
    dice = np.random.default_rng(4)
    while count > 0:
        yield from dice.choice(words, min(count, 10**6), p=shares / shares.sum()).tolist()
        count -= 10**6


def _median(search: Callable[[Query], object], queries: Sequence[Query]) -> float:
    search(queries[0])
    taken = []
    for query in [*queries, *queries]:
        start = time.perf_counter()
        search(query)
        taken.append(time.perf_counter() - start)
    return float(np.median(taken)) * 1000


if __name__ == "__main__":
    main([int(size) for size in sys.argv[1:]] or [10_000, 100_000])
