"""The approximate index of a large segment: inverted lists of 8-bit codes, as good as was measured.

`ivf.index` is FAISS's IVF,SQ8 for inner products. Its lists hold codes (n, dim) uint8 and rows (n,)
int64, and stay on the disk, mapped into memory, when it is read. It follows from the raw vectors alone.
While it is made, nothing is held in memory for every row: rows pass in blocks, and the lists are
written a shard at a time and joined on the disk.
"""

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from indexer.segments.rows import load_faiss
from pipeline.types import Vectors

LISTS_PER_ROOT = 4
SAMPLES_PER_LIST = 64
SAMPLE_BYTES = 256 * 2**20
SHARD_BYTES = 256 * 2**20
BLOCK = 8192
ROUNDS = 10
SEED = 360
QUERIES = 256
NEAREST = 10
OVERFETCH = 32
COSINE = 0.9

RawVectors = NDArray[np.float16]


@dataclass(frozen=True, slots=True)
class IndexRule:
    """Segments of more than `flat_rows` rows get inverted lists that reach `recall` at 10, 0.5 to 1.

    At 8,000 rows of 384 dimensions a flat search and one in lists take the same 0.6 ms of one core, at 16,000
    1.2 and 0.7 ms, at 32,000 2.6 and 0.65 ms.
    """

    flat_rows: int = 16_384
    recall: float = 0.97

    def __post_init__(self) -> None:
        if not 0.5 <= self.recall <= 1 or self.flat_rows < 1:
            raise ValueError("the recall of an index is 0.5 to 1, its flat rows are 1 or more")


DEFAULT_RULE = IndexRule()


def build_ivf(folder: Path, vectors: RawVectors, rule: IndexRule) -> dict[str, Any]:
    """Write `ivf.index` for raw vectors (n, dim); what the manifest says of it.

    The number of lists is 4 sqrt(n), from FAISS's guidelines to choose an index. They are trained on at
    most 64 rows a list and 256 MiB of float32; a million rows of 384 dimensions take some minutes on one
    core. Raises OSError when the disk refuses.
    """
    index = _trained(vectors)
    _write(folder, index, vectors)
    index = read_ivf(folder)
    nprobe, recall = _measured(index, vectors, rule.recall)
    return {
        "type": f"IVF{index.nlist},SQ8",
        "nlist": index.nlist,
        "nprobe": nprobe,
        "recall": recall,
        "target": rule.recall,
        "queries": min(QUERIES, len(vectors)),
    }


def read_ivf(folder: Path) -> Any:  # noqa: ANN401  # faiss has no types
    """The index with its lists left on the disk. Raises RuntimeError when FAISS cannot read it."""
    faiss = load_faiss()
    return faiss.read_index(str(folder / "ivf.index"), faiss.IO_FLAG_MMAP_IFC)


def _trained(vectors: RawVectors) -> Any:  # noqa: ANN401  # faiss has no types
    faiss = load_faiss()
    n, dim = vectors.shape
    nlist = max(1, round(LISTS_PER_ROOT * n**0.5))
    most = max(nlist, min(SAMPLES_PER_LIST * nlist, SAMPLE_BYTES // (4 * dim)))
    sample = _some(vectors, most).astype(np.float32)
    centroids = _centroids(sample, nlist)
    quantiser = faiss.IndexFlatIP(dim)
    quantiser.add(centroids)
    index = faiss.IndexIVFScalarQuantizer(
        quantiser,
        dim,
        len(centroids),
        faiss.ScalarQuantizer.QT_8bit,
        faiss.METRIC_INNER_PRODUCT,
        False,  # noqa: FBT003  # codes of the vectors themselves, not of what is left to a centroid
    )
    quantiser.this.disown()
    index.own_fields = True
    index.train(sample)
    return index


def _centroids(sample: Vectors, count: int) -> Vectors:
    """k-means from a cheap start: sqrt(count) clusters, each cut in its share, then two rounds over all.

    Ten rounds over all take five times as long; without the last two, twice as many lists must be probed.
    """
    coarse = _kmeans(sample, max(1, round(count**0.5)), ROUNDS)
    faiss = load_faiss()
    nearest = faiss.IndexFlatIP(sample.shape[1])
    nearest.add(coarse)
    owner = nearest.search(sample, 1)[1][:, 0]
    sizes = np.bincount(owner, minlength=len(coarse))
    shares = np.diff(np.cumsum(sizes) * count // len(sample), prepend=0)
    fine = [
        _kmeans(sample[owner == place], min(max(1, int(share)), int(size)), ROUNDS)
        for place, (share, size) in enumerate(zip(shares, sizes, strict=True))
        if size
    ]
    start = np.concatenate(fine)
    return _kmeans(sample, len(start), 2, start)


def _kmeans(sample: Vectors, count: int, rounds: int, start: Vectors | None = None) -> Vectors:
    faiss = load_faiss()
    means = faiss.Kmeans(
        sample.shape[1],
        count,
        niter=rounds,
        seed=SEED,
        spherical=True,
        min_points_per_centroid=1,
        max_points_per_centroid=256,
    )
    means.train(np.ascontiguousarray(sample), init_centroids=start)
    centroids: Vectors = means.centroids
    return centroids


def _write(folder: Path, index: Any, vectors: RawVectors) -> None:  # noqa: ANN401
    """`ivf.index`, its lists joined from shards that are each held in memory once, then removed."""
    faiss = load_faiss()
    rows_a_shard = max(BLOCK, SHARD_BYTES // (vectors.shape[1] + 8))
    paths = []
    for start in range(0, len(vectors), rows_a_shard):
        end = min(start + rows_a_shard, len(vectors))
        for at in range(start, end, BLOCK):
            rows = np.arange(at, min(at + BLOCK, end))
            index.add_with_ids(vectors[rows[0] : rows[-1] + 1].astype(np.float32), rows)
        path = folder / f"shard-{start}"
        with path.open("wb") as file:
            file.write(faiss.serialize_index(index))
        index.reset()
        paths.append(path)
    shards = [faiss.read_index(str(path), faiss.IO_FLAG_MMAP_IFC) for path in paths]
    with (folder / "ivf.index").open("wb") as file:
        _write_joined(file, index, [shard.invlists for shard in shards], len(vectors))
    for path in paths:
        path.unlink()


def _write_joined(file: BinaryIO, index: Any, shards: Sequence[Any], rows: int) -> None:  # noqa: ANN401
    """FAISS's own format (write_InvertedLists in index_write.cpp): after the head of the index "ilar", the
    numbers of lists and of bytes a code, "full", the sizes of the lists, and of each its codes and rows.
    """
    faiss = load_faiss()
    index.ntotal = rows
    empty = faiss.serialize_index(index).tobytes()
    file.write(empty[: empty.rindex(b"ilar")])
    sizes = [[shard.list_size(i) for shard in shards] for i in range(index.nlist)]
    file.write(b"ilar" + struct.pack("<QQ", index.nlist, index.code_size))
    file.write(b"full" + struct.pack("<Q", index.nlist))
    file.write(np.array([sum(of) for of in sizes], "<u8").tobytes())
    for i, of in enumerate(sizes):
        parts = [(shard, size) for shard, size in zip(shards, of, strict=True) if size]
        file.writelines(
            faiss.rev_swig_ptr(shard.get_codes(i), size * index.code_size) for shard, size in parts
        )
        file.writelines(faiss.rev_swig_ptr(shard.get_ids(i), size) for shard, size in parts)


def _measured(index: Any, vectors: RawVectors, target: float) -> tuple[int, float]:  # noqa: ANN401
    """The fewest probed lists that reach the target, and the recall at 10 that was measured there.

    A query is a row turned away by chance to a cosine of 0.9, since questions lie farther from passages
    than passages from each other; it asks for a few more lists than one that is drawn as the rows are.
    The row itself is left out of its 10 nearest, which exact search over all rows tells. The target
    counts as reached when the mean less one standard error is not below it. When all lists together do
    not reach it (8 bits lose a little), all are probed.
    """
    rows = _some_rows(len(vectors), QUERIES)
    queries = _turned(vectors[rows].astype(np.float32))
    exact = _nearest(vectors, queries, rows)

    def recalls(nprobe: int) -> NDArray[np.float64]:
        faiss = load_faiss()
        options = faiss.SearchParametersIVF(nprobe=nprobe)
        found = index.search(queries, NEAREST + OVERFETCH, params=options)[1]
        hits = [len(np.intersect1d(a, b)) for a, b in zip(exact, found, strict=True)]
        shares: NDArray[np.float64] = np.array(hits) / max(exact.shape[1], 1)
        return shares

    def enough(nprobe: int) -> bool:
        shares = recalls(nprobe)
        error = shares.std() / len(shares) ** 0.5
        return bool(shares.mean() - error >= target)

    high = 1
    while high < index.nlist and not enough(high):
        high = min(2 * high, index.nlist)
    low = high // 2  # known not to do, or 0
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (low, middle) if enough(middle) else (middle, high)
    return high, round(float(recalls(high).mean()), 4)


def _nearest(vectors: RawVectors, queries: Vectors, own: NDArray[np.int64]) -> NDArray[np.int64]:
    """The 10 nearest rows of each query (queries, 10) without its `own` one, block by block."""
    scores = np.empty((len(queries), 0), np.float32)
    rows = np.empty((len(queries), 0), np.int64)
    for at in range(0, len(vectors), BLOCK):
        block = queries @ vectors[at : at + BLOCK].astype(np.float32).T
        mine = (own >= at) & (own < at + BLOCK)
        block[mine, own[mine] - at] = -np.inf
        places = np.broadcast_to(np.arange(at, at + block.shape[1]), block.shape)
        scores, rows = np.hstack([scores, block]), np.hstack([rows, places])
        if scores.shape[1] > NEAREST:
            best = np.argpartition(-scores, NEAREST - 1, axis=1)[:, :NEAREST]
            scores = np.take_along_axis(scores, best, axis=1)
            rows = np.take_along_axis(rows, best, axis=1)
    return rows


def _turned(vectors: Vectors) -> Vectors:
    """Unit vectors at a cosine of COSINE from these, each in a direction of its own."""
    away = np.random.default_rng(SEED).standard_normal(vectors.shape, dtype=np.float32)
    away -= np.vecdot(away, vectors)[:, None] * vectors
    away /= np.maximum(np.linalg.norm(away, axis=1, keepdims=True), 1e-12)
    turned: Vectors = COSINE * vectors + (1 - COSINE**2) ** 0.5 * away
    return turned


def _some(vectors: RawVectors, most: int) -> RawVectors:
    return vectors[_some_rows(len(vectors), most)]


def _some_rows(rows: int, most: int) -> NDArray[np.int64]:
    """At most so many rows by chance, ascending; the same each time."""
    if rows <= most:
        return np.arange(rows)
    chosen = np.random.default_rng(SEED).choice(rows, most, replace=False)
    return np.sort(chosen)
