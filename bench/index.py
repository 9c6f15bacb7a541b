"""The vector index as it grows: what publishing, searching, opening and keeping a chunk cost.

Run: nice python -m bench.index [--sizes 10000,100000] [--dim 384] [--folder DIR] [--peer 10000]

Chunks are published 1,000 at a time and merged by the policy, so that the segments at a size are those
that uploads leave. Vectors are random unit vectors with structure: 2,000 subjects whose sizes follow a
power law, each a cloud around a random direction as wide as the direction is long. Queries are drawn in
the same way, and are no chunks. Beside it, in the same process: plain FAISS (IndexFlatIP, float32, the
floor, which also tells what is nearest) and, up to the size of `--peer`, LanceDB (IVF_HNSW_SQ, as it
comes; it takes all cores). A time is the median over single searches with one thread for FAISS, in turns
with those of plain FAISS and after 200 others. Memory and opening are those of a fresh process.
A folder that is kept is grown on from where it stands. Progress goes to standard error, a table to
standard output.
"""

import argparse
import json
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from indexer.segments.rows import load_faiss
from indexer.segments.segment import Segment, Staged, merge_segments, to_merge, write_segment
from indexer.segments.vectors import SegmentedVectors
from pipeline.types import Keys, Script, Vectors

UPLOAD, QUERIES, SUBJECTS, FINGERPRINT = 1000, 200, 2000, "bench"
ROUNDS, WARMING = 8, 10**6
Row = dict[str, float]
Rows = NDArray[np.int64]


def main() -> None:
    """Print a table of every size."""
    asked = _arguments()
    if asked.probe:
        print(json.dumps(_probe(asked.folder, asked.dim)))
        return
    folder = asked.folder or Path(tempfile.mkdtemp(prefix="bench-index-"))
    try:
        columns = {}
        for size in asked.sizes:
            columns[size] = _column(folder, size, asked.dim, peer=size <= asked.peer)
            _say(f"{size:,} chunks: {json.dumps(columns[size])}")
        table(columns, asked.dim)
    finally:
        if asked.folder is None:
            shutil.rmtree(folder)


def _column(folder: Path, size: int, dim: int, *, peer: bool) -> Row:
    row = _grow(folder, size, dim)
    queries = cloud(dim, -1, QUERIES)
    own, nearest = _searched(folder, size, queries)
    row |= own
    row |= _in_a_fresh_process(folder, dim)
    row["memory, bytes a chunk"] = row.pop("memory") / size
    row["memory with what the disk holds, bytes a chunk"] = row.pop("mapped") / size
    if peer:
        row |= _peer(size, dim, queries, nearest)
    return row


def _searched(folder: Path, size: int, queries: Vectors) -> tuple[Row, Rows]:
    """Ours beside plain FAISS, and the 10 chunks (queries, 10) that are nearest in truth."""
    segments = _opened(folder)
    keys, dim = np.arange(size), queries.shape[1]
    index = SegmentedVectors(list(segments.values()), keys)
    faiss = load_faiss()
    flat = faiss.IndexFlatIP(dim)
    for number in range(size // UPLOAD):
        flat.add(cloud(dim, number, UPLOAD).astype(np.float16).astype(np.float32))
    nearest: Rows = flat.search(queries, 10)[1]
    half = np.flatnonzero(np.random.default_rng(1).random(size) < 0.5)
    inside = np.isin(keys, half)
    selector = faiss.IDSelectorBitmap(np.packbits(inside, bitorder="little"))
    options = faiss.SearchParameters(sel=selector)
    nearest_half: Rows = flat.search(queries[:50], 10, params=options)[1]

    def ours(k: int, allowed: Keys | None = None) -> Callable[[Vectors], list[int]]:
        return lambda query: [key for key, _ in index.search(query, k, allowed)]

    _timed(
        ours(10), cloud(dim, WARMING, QUERIES)
    )  # until what is often read of the files is mapped
    plain_taken: list[float] = []
    best_taken: list[float] = []
    found: list[list[int]] = []
    for some in np.array_split(queries, ROUNDS):  # in turns, as other work may come and go
        plain_taken += _timed(lambda query: flat.search(query[None], 10)[1][0].tolist(), some[:5])[
            0
        ]
        taken, those = _timed(ours(10), some)
        best_taken += taken
        found += those
    plain, best = _median(plain_taken), _median(best_taken)
    wide, _ = _timed(ours(200), queries)
    filtered, found_half = _timed(ours(10, half), queries[:50])
    files = [path for name in segments for path in (folder / str(name)).iterdir()]
    row = {
        "plain FAISS flat, best 10, ms": plain,
        "best 10, ms": best,
        "recall at 10": _recall(found, nearest),
        "times faster than flat": plain / best,
        "best 200, ms": _median(wide),
        "best 10 of half the chunks, ms": _median(filtered),
        "recall at 10 of half the chunks": _recall(found_half, nearest_half),
        "segments": float(len(segments)),
        "disk, bytes a chunk": sum(path.stat().st_size for path in files) / size,
    }
    return row, nearest


def _grow(folder: Path, size: int, dim: int) -> Row:
    """Publish until there are so many chunks; what an upload cost on the way, merging included."""
    opened = _opened(folder)
    number = max([*opened, -1]) + 1
    keys = np.arange(size)
    taken: list[float] = []
    merging = 0.0
    while (done := sum(map(len, opened.values()))) < size:
        vectors = cloud(dim, done // UPLOAD, UPLOAD).astype(np.float16)
        start = time.perf_counter()
        rows = [Staged(vectors, None, (Script.HAN,) * UPLOAD)]
        path = folder / str(number)
        write_segment(path, keys[done : done + UPLOAD], rows, fingerprint=FINGERPRINT)
        opened[number] = Segment.open(path, fingerprint=FINGERPRINT)
        number += 1
        taken.append(time.perf_counter() - start)
        while chosen := to_merge({name: len(segment) for name, segment in opened.items()}):
            start = time.perf_counter()
            path = folder / str(number)
            merge_segments([opened[i] for i in chosen], keys, path, fingerprint=FINGERPRINT)
            opened[number] = Segment.open(path, fingerprint=FINGERPRINT)
            number += 1
            for name in chosen:
                del opened[name]
                shutil.rmtree(folder / str(name))
            merging += time.perf_counter() - start
            _say(f"merged into {len(opened[number - 1]):,}, {time.perf_counter() - start:.1f} s")
    if not taken:
        return {}
    return {
        "publishing 1,000 chunks, ms": float(np.median(taken)) * 1000,
        "merging behind it, ms a 1,000 chunks": merging / len(taken) * 1000,
    }


def _opened(folder: Path) -> dict[int, Segment]:
    """The finished segments of a folder; what an interrupted run was writing is removed."""
    folder.mkdir(parents=True, exist_ok=True)
    for path in folder.iterdir():
        if path.name.startswith("."):
            shutil.rmtree(path)
    names = sorted(int(path.name) for path in folder.iterdir() if path.name.isdigit())
    opened = {name: Segment.open(folder / str(name), fingerprint=FINGERPRINT) for name in names}
    for merged in sorted(
        opened, reverse=True
    ):  # killed between a merge and the removal of its parts
        for name in [n for n in opened if n < merged and merged in opened]:
            if np.isin(opened[name].keys[:1], opened[merged].keys).any():
                del opened[name]
                shutil.rmtree(folder / str(name))
    return opened


def cloud(dim: int, number: int, count: int) -> Vectors:
    """Unit vectors (count, dim) of upload `number`; -1 are the queries."""
    subjects = np.random.default_rng(0).standard_normal((SUBJECTS, dim), dtype=np.float32)
    subjects /= np.linalg.norm(subjects, axis=1, keepdims=True)
    weights = np.arange(1, SUBJECTS + 1) ** -0.8
    dice = np.random.default_rng(number + 2)
    vectors: Vectors = subjects[dice.choice(SUBJECTS, count, p=weights / weights.sum())]
    vectors += dice.standard_normal((count, dim), dtype=np.float32) / np.float32(dim**0.5)
    vectors /= np.linalg.norm(vectors, axis=1, keepdims=True)
    return vectors


def _timed(
    search: Callable[[Vectors], list[int]], queries: Vectors
) -> tuple[list[float], list[list[int]]]:
    """The milliseconds of each search, after one that is not counted, and what was found."""
    search(queries[0])
    taken, found = [], []
    for query in queries:
        start = time.perf_counter()
        found.append(search(query))
        taken.append((time.perf_counter() - start) * 1000)
    return taken, found


def _median(taken: Sequence[float]) -> float:
    return float(np.median(taken))


def _recall(found: Sequence[Sequence[int]], nearest: Rows) -> float:
    pairs = zip(found, nearest.tolist(), strict=True)
    return float(np.mean([len(set(ours) & set(best)) / len(best) for ours, best in pairs]))


def _in_a_fresh_process(folder: Path, dim: int) -> Row:
    command = [sys.executable, "-m", "bench.index", "--probe", "--folder", str(folder)]
    told = subprocess.run([*command, "--dim", str(dim)], check=True, capture_output=True, text=True)
    row: Row = json.loads(told.stdout)
    return row


def _probe(folder: Path, dim: int) -> Row:
    """Opening, the first search, and the memory that 100 searches take: of its own, and mapped from files."""
    load_faiss()
    queries = cloud(dim, -1, 100)
    own, mapped = _resident()
    start = time.perf_counter()
    segments = _opened(folder)
    index = SegmentedVectors(list(segments.values()), np.arange(sum(map(len, segments.values()))))
    opened = time.perf_counter()
    index.search(queries[0], 10, None)
    first = time.perf_counter()
    for query in queries:
        index.search(query, 200, None)
    now_own, now_mapped = _resident()
    return {
        "opening, s": opened - start,
        "first search, ms": (first - opened) * 1000,
        "memory": now_own - own,
        "mapped": now_own - own + now_mapped - mapped,
    }


def _resident() -> tuple[int, int]:
    """Bytes of memory that are this process's own, and bytes mapped from files."""
    lines = Path("/proc/self/status").read_text().splitlines()
    told = {line.split(":")[0]: line.split()[1] for line in lines if line.startswith("Rss")}
    return int(told["RssAnon"]) * 1024, int(told["RssFile"]) * 1024


def _peer(size: int, dim: int, queries: Vectors, nearest: Rows) -> Row:
    """LanceDB: the same vectors in one table with an index made over all of them at once."""
    # Installed by hand where it is wanted: uv pip install lancedb
    import lancedb  # type: ignore[import-not-found, unused-ignore]
    import pyarrow as pa  # type: ignore[import-not-found, import-untyped, unused-ignore]

    def batches() -> Any:  # noqa: ANN401  # pyarrow has no types
        for number in range(size // UPLOAD):
            flat = pa.array(cloud(dim, number, UPLOAD).astype(np.float32).reshape(-1))
            keys = pa.array(np.arange(number * UPLOAD, (number + 1) * UPLOAD))
            vectors = pa.FixedSizeListArray.from_arrays(flat, dim)
            yield pa.record_batch([keys, vectors], names=["key", "vector"])

    folder = tempfile.mkdtemp(prefix="bench-lance-")
    try:
        schema = pa.schema([("key", pa.int64()), ("vector", pa.list_(pa.float32(), dim))])
        start = time.perf_counter()
        table = lancedb.connect(folder).create_table("chunks", batches(), schema=schema)
        table.create_index(metric="dot", index_type="IVF_HNSW_SQ")
        built = time.perf_counter() - start
        _say(f"LanceDB built its index in {built:.0f} s")

        def search(query: Vectors) -> list[int]:
            found = table.search(query).limit(10).select(["key", "_distance"]).to_arrow()
            keys: list[int] = found["key"].to_pylist()
            return keys

        taken, found = _timed(search, queries)
        files = [path for path in Path(folder).rglob("*") if path.is_file()]
        return {
            "LanceDB, best 10, ms": _median(taken),
            "LanceDB, recall at 10": _recall(found, nearest),
            "LanceDB, disk, bytes a chunk": sum(path.stat().st_size for path in files) / size,
            "LanceDB, building, s": built,
        }
    finally:
        shutil.rmtree(folder)


def table(columns: dict[int, Row], dim: int) -> None:
    print(f"| {dim} dimensions | " + " | ".join(f"{size:,} chunks" for size in columns) + " |")
    print("|---" * (len(columns) + 1) + "|")
    names = dict.fromkeys(name for row in columns.values() for name in row)
    for name in names:
        cells = (f"{row[name]:,.4g}" if name in row else "" for row in columns.values())
        print(f"| {name} | " + " | ".join(cells) + " |")


def _say(line: str) -> None:
    print(line, file=sys.stderr, flush=True)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m bench.index")
    told = "sizes in chunks, thousands, ascending"
    parser.add_argument("--sizes", type=sizes, default=[10_000, 100_000], help=told)
    parser.add_argument("--dim", type=int, default=384)
    parser.add_argument("--folder", type=Path, help="kept, and grown on from where it stands")
    parser.add_argument("--peer", type=int, default=0, help="LanceDB, too, up to this size")
    parser.add_argument("--probe", action="store_true", help=argparse.SUPPRESS)
    return parser.parse_args()


def sizes(told: str) -> list[int]:
    found = [int(size) for size in told.split(",")]
    if any(size <= 0 or size % UPLOAD for size in found) or found != sorted(found):
        raise argparse.ArgumentTypeError("sizes are thousands, ascending: 10000,100000")
    return found


if __name__ == "__main__":
    main()
