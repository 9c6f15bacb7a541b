"""Searching one segment: flat over the raw vectors, or in inverted lists. An id is a row."""

import math
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from types import ModuleType
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.types import Vectors

FEW_ROWS = 20_000
"""Up to so many wanted rows of a segment with lists are searched flat, so exactly. It takes up to 10 ms in
a million rows; in the lists, the same few would need most of them to be probed."""
MARGIN = 10
"""With the 16 rows that every segment is asked for beyond k, as many as the measured recall rests on."""
RawVectors = NDArray[np.float16]


def load_faiss() -> ModuleType:
    """FAISS, set to one OpenMP thread for the calling thread (the setting is each thread's own).

    At batch 1 a second thread makes a search slower on a busy machine. A search calls this each
    time: it takes a microsecond.
    """
    import faiss

    faiss.omp_set_num_threads(1)
    module: ModuleType = faiss
    return module


@dataclass(frozen=True, slots=True, eq=False)
class Wanted:
    """Which rows of a segment may come back: `count` of `of`, True in `mask` (of,); None is every row.

    `selector` is the same for FAISS.
    """

    count: int
    of: int
    mask: NDArray[np.bool_] | None
    selector: Any  # faiss has no types

    @classmethod
    def every(cls, of: int) -> "Wanted":
        return cls(of, of, None, None)

    @classmethod
    def masked(cls, mask: NDArray[np.bool_]) -> "Wanted":
        count = int(np.count_nonzero(mask))
        if count == len(mask):
            return cls.every(count)
        selector = load_faiss().IDSelectorBitmap(np.packbits(mask, bitorder="little"))
        return cls(count, len(mask), mask, selector)

    @property
    def rows(self) -> NDArray[np.int64]:
        """The wanted rows, ascending."""
        return np.arange(self.of) if self.mask is None else np.flatnonzero(self.mask)


@dataclass(frozen=True, slots=True, eq=False)
class Found:
    """Rows (m,) that a segment shows for a query, and their scores (m,) as near as the index knows them.

    A wanted row that is not shown scores `limit` or less; -inf when nothing more can be shown.
    """

    rows: NDArray[np.int64]
    scores: Vectors
    limit: float


NOTHING = Found(np.empty(0, np.int64), np.empty(0, np.float32), -math.inf)


class RowIndex(Protocol):
    """Shows at least `count` wanted rows of a segment (all of them where there are fewer), among them
    those nearest to `vector` (dim,) float32, as well as the index is told to know them.

    The search may run when it is begun or when the function that `begin` returns is called, once.
    """

    def begin(self, vector: Vectors, count: int, wanted: Wanted) -> Callable[[], Found]: ...


class FlatRows:
    """Every wanted row is scored: the float32 product with the raw float16 vector.

    FAISS's fp16 quantiser holds the same bytes as the raw vectors, so its codes are a view of them:
    nothing is stored twice. `vectors` (n, dim) float16 must lie in one piece.
    """

    def __init__(self, vectors: RawVectors) -> None:
        faiss = load_faiss()
        n, dim = vectors.shape
        self._raw = np.ascontiguousarray(vectors)  # keeps the memory that the view points to
        self._index = faiss.IndexScalarQuantizer(
            dim, faiss.ScalarQuantizer.QT_fp16, faiss.METRIC_INNER_PRODUCT
        )
        if n:
            self._index.codes = _view(self._raw)
            self._index.ntotal = n

    def begin(self, vector: Vectors, count: int, wanted: Wanted) -> Callable[[], Found]:
        return partial(self.search, vector, count, wanted)

    def batch(self) -> Any:  # noqa: ANN401  # faiss has no types
        """The FAISS index itself, over the same memory."""
        return self._index

    def search(self, vector: Vectors, count: int, wanted: Wanted) -> Found:
        """Exact, but for the order of a sum of float32."""
        if not wanted.count:
            return NOTHING
        faiss = load_faiss()
        options = (
            {} if wanted.mask is None else {"params": faiss.SearchParameters(sel=wanted.selector)}
        )
        scores, rows = self._index.search(vector[None], min(count, wanted.count), **options)
        limit = -math.inf if count >= wanted.count else float(scores[0, -1])
        return Found(rows[0], scores[0], limit)


class ListedRows:
    """A few lists are probed for a few more rows than asked, whose exact scores then decide.

    Where rows are excluded, so many lists are probed that as many wanted rows can be expected in them,
    and twice as many while they hold fewer than asked.
    """

    def __init__(
        self,
        index: Any,  # noqa: ANN401  # faiss has no types
        nprobe: int,
        flat: FlatRows,
        *,
        few: int = FEW_ROWS,
    ) -> None:
        self._index = index
        self._nprobe = nprobe
        self._flat = flat
        self._few = few

    def begin(self, vector: Vectors, count: int, wanted: Wanted) -> Callable[[], Found]:
        return partial(self.search, vector, count, wanted)

    def search(self, vector: Vectors, count: int, wanted: Wanted) -> Found:
        """The nearest rows with the recall that was measured; exact for few wanted rows."""
        lists = self._index.nlist
        if wanted.count <= max(self._few, count):
            return self._flat.search(vector, count, wanted)
        faiss = load_faiss()
        fetched = min(count + count // 4 + MARGIN, wanted.count)
        nprobe = min(lists, math.ceil(self._nprobe * wanted.of / wanted.count))
        while True:
            options = faiss.SearchParametersIVF(sel=wanted.selector, nprobe=nprobe)
            scores, found = self._index.search(vector[None], fetched, params=options)
            rows = found[0, : np.count_nonzero(found[0] >= 0)]  # those that are missing come last
            if len(rows) >= count or nprobe >= lists:
                break
            nprobe = min(2 * nprobe, lists)
        limit = float(scores[0, -1]) if len(rows) == fetched else -math.inf
        return Found(rows, scores[0, : len(rows)], limit)


def _view(raw: RawVectors) -> Any:  # noqa: ANN401  # faiss has no types
    """FAISS's vector of bytes over this memory, which it neither copies nor frees."""
    faiss = load_faiss()
    codes = faiss.MaybeOwnedVectorUInt8()
    start = faiss.swig_ptr(raw.view(np.uint8).reshape(-1))
    codes.is_owned = False
    codes.view_data = codes.c_ptr = start
    codes.view_size = codes.c_size = raw.nbytes
    return codes
