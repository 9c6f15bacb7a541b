"""The words leg: a tantivy index a generation, one writer, and searchers that see live rows only.

Nothing but each row's key and terms is kept. Rows that SQL does not know (of a publish that crashed,
or deleted since) may stand in the index; a searcher passes over them.
"""

import math
import os
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from types import ModuleType, TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from pipeline.analyze import TERMS
from pipeline.errors import DamagedIndex, Overloaded, Unavailable
from pipeline.types import Key, Keys, Vectors

HEAP_BYTES = 64_000_000
FEW_ALLOWED = 1000
"""Up to so many allowed keys are looked up in the index itself; with more, or with a quarter
of all rows, hits are filtered."""
MANY_SHARE = 4
SLACK = 16
MOST_TIED = 4096
"""Hits fetched to settle a tie at the cut; in a larger tie, the order of the index decides."""
TIE = 1e-6
"""Scores so near each other are a tie: the order of float32 sums is not fixed."""
EVERY = "every"
K1 = 1.2
_BODY = f"body_{TERMS}"
"""An index of terms made another way has no such field, and cannot be searched by mistake."""


class WordWriter:
    """The one writer of a words index. Nothing is seen before `commit`; closing without it forgets."""

    def __init__(self, writer: Any) -> None:  # noqa: ANN401  # tantivy has no types here
        self._writer = writer
        self._tantivy = _tantivy()

    @classmethod
    def open(cls, folder: Path) -> Self:
        """Open the index for writing, making it where there is none.

        The lock is the system's own, so it goes with its process. Raises Overloaded while another
        writer has it, DamagedIndex when the index cannot be read, Unavailable when the disk refuses.
        """
        tantivy = _tantivy()
        try:
            folder.mkdir(parents=True, exist_ok=True)
            index = tantivy.Index(_schema(), path=str(folder), reuse=True)
            analyzer = tantivy.TextAnalyzerBuilder(tantivy.Tokenizer.whitespace()).build()
            index.register_tokenizer("terms", analyzer)
        except ValueError as error:
            raise _damaged(str(error)) from error
        except OSError as error:
            raise _refused(str(error)) from error
        try:
            return cls(index.writer(HEAP_BYTES, 1))
        except ValueError as error:
            if "LockBusy" in str(error):
                raise Overloaded("the words index is being written already: try again") from error
            raise _refused(str(error)) from error

    def add(self, key: int, terms: Iterable[str]) -> None:
        """Put a row; one of the same key is replaced. A term has no white space in it."""
        body = " ".join(terms)
        document = self._tantivy.Document(key=int(key), every=EVERY, **{_BODY: body})
        try:
            self._writer.delete_documents_by_term("key", int(key))
            self._writer.add_document(document)
        except ValueError as error:
            raise _refused(str(error)) from error

    def delete(self, keys: Keys | Sequence[int]) -> None:
        """Take rows out; keys that are not there are passed over."""
        for key in keys:
            self._writer.delete_documents_by_term("key", int(key))

    def clear(self) -> None:
        """Take every row out, so that the next commit leaves no trace of what was deleted."""
        self._writer.delete_all_documents()

    def collect(self) -> None:
        """Remove the files that no commit names any more."""
        try:
            self._writer.garbage_collect_files()
        except ValueError as error:
            raise _refused(str(error)) from error

    def commit(self) -> None:
        """Make everything since the last commit durable. Raises Unavailable when the disk refuses."""
        try:
            self._writer.commit()
        except ValueError as error:
            raise _refused(str(error)) from error

    def rollback(self) -> None:
        """Forget everything since the last commit."""
        self._writer.rollback()

    def close(self) -> None:
        """Wait for merges that run, and give the lock back; what is not committed is forgotten."""
        if self._writer is None:
            return
        writer, self._writer = self._writer, None
        try:
            writer.wait_merging_threads()
        except ValueError as error:  # a merge that failed leaves the segments that it read
            raise _refused(str(error)) from error

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


class WordSearcher:
    """Implements `pipeline.ports.WordIndex` on the state of the index at opening; `live` is sorted.

    The score of a row is the sum over matching terms t of weight_t tf / (tf + k1 (1 - b + b len /
    avg)), k1 1.2, b 0.75: Okapi BM25 (Robertson and Walker 1994) with the given weights in place of
    idf (k1 + 1). It is made of tantivy's BM25 by boosting each term with weight / (idf (k1 + 1)).
    Lengths are in terms; tantivy rounds those above 40 down, by an eighth at most.
    """

    def __init__(self, folder: Path, live: Keys) -> None:
        self._live = live
        self._tantivy = _tantivy()
        self._searcher: Any = None
        self._rows = 0
        if not (folder / "meta.json").exists():
            if len(live):
                raise _damaged("there is none")
            return
        self._schema = _schema()
        try:
            with _readable(folder) as place:
                index = self._tantivy.Index.open(str(place))
                index.config_reader("manual")
                index.reload()
                self._searcher = index.searcher()
            self._searcher.doc_freq(_BODY, EVERY)  # refused where the index holds other terms
            self._rows = self._searcher.doc_freq("every", EVERY)
        except (ValueError, OSError) as error:
            raise _damaged(str(error)) from error

    def search(
        self, terms: Mapping[str, float], k: int, allowed: Keys | None
    ) -> list[tuple[Key, float]]:
        """The k best live rows with any of the terms (key, score), best first, ties by key.

        `allowed` (sorted keys) narrows it. Weights of 0 or less are passed over.
        """
        wanted = self._live if allowed is None else allowed[_is_in(allowed, self._live)]
        matching = self._matching(terms)
        k = min(k, len(wanted))
        if k <= 0 or not matching:
            return []
        query, count = self._tantivy.Query.boolean_query(matching), k + SLACK
        if len(wanted) <= FEW_ALLOWED and len(wanted) * MANY_SHARE < self._rows:
            must = self._tantivy.Occur.Must
            query = self._tantivy.Query.boolean_query([(must, self._among(wanted)), (must, query)])
            count = max(k, min(len(wanted), MOST_TIED)) + SLACK
        while True:
            keys, scores, whole = self._hits(query, count)
            there = _is_in(keys, wanted)
            ties = _ties(scores)
            enough = there.sum() >= k
            if whole or (enough and (ties[-1] < ties[there][k - 1] or count > k + MOST_TIED)):
                best = np.lexsort((keys[there], -ties[there]))[:k]
                found, equal = keys[there][best].tolist(), ties[there][best].tolist()
                return [(Key(key), score) for key, score in zip(found, equal, strict=True)]
            count *= 2

    def score(self, terms: Mapping[str, float], keys: Keys) -> Vectors:
        """The score (n,) of each key, in their order; 0 where nothing matches.

        Raises KeyError for a key that is not live.
        """
        keys = np.asarray(keys, np.int64)
        dead = ~_is_in(keys, self._live)
        if dead.any():
            raise KeyError(int(keys[dead][0]))
        scores = np.zeros(len(keys), np.float32)
        matching = self._matching(terms)
        if not matching or not len(keys):
            return scores
        must, occur = self._among(np.unique(keys)), self._tantivy.Occur
        query = self._tantivy.Query.boolean_query([(occur.Must, must), *matching])
        found, values, _ = self._hits(query, len(keys))
        order = np.argsort(found)
        found, values = found[order], values[order]
        there = _is_in(keys, found)
        scores[there] = values[np.searchsorted(found, keys[there])]
        return scores

    def frequencies(self, terms: Sequence[str]) -> tuple[list[int], int]:
        """In how many rows each term stands, and how many rows there are.

        Deleted rows count until tantivy merges them away, in both numbers alike.
        """
        if self._searcher is None:
            return [0] * len(terms), 0
        return [self._searcher.doc_freq(_BODY, term) for term in terms], self._rows

    def _matching(self, terms: Mapping[str, float]) -> list[tuple[Any, Any]]:
        """One clause a term that stands in the index."""
        query, should = self._tantivy.Query, self._tantivy.Occur.Should
        positive = {term: weight for term, weight in terms.items() if weight > 0}
        frequencies, rows = self.frequencies(list(positive))
        clauses = []
        for (term, weight), n in zip(positive.items(), frequencies, strict=True):
            if n:
                idf = math.log1p((rows - n + 0.5) / (n + 0.5))
                word = query.term_query(self._schema, _BODY, term, "freq")
                clauses.append((should, query.boost_query(word, weight / (idf * (K1 + 1)))))
        return clauses

    def _among(self, keys: Keys) -> Any:  # noqa: ANN401  # tantivy has no types here
        """Matches the rows of these keys, and adds nothing to their score."""
        query = self._tantivy.Query
        return query.const_score_query(
            query.term_set_query(self._schema, "key", keys.tolist()), 0.0
        )

    def _hits(self, query: Any, count: int) -> tuple[Keys, Vectors, bool]:  # noqa: ANN401
        """Keys and scores of the best rows, best first, and whether those are all there are."""
        try:
            hits = self._searcher.search(query, count, count=False).hits
            keys = self._searcher.fast_field_values("key", [address for _, address in hits])
        except (ValueError, OSError) as error:
            raise _damaged(str(error)) from error
        scores = np.array([score for score, _ in hits], np.float32)
        return np.array(keys, np.int64), scores, len(hits) < count


def stored_keys(folder: Path) -> Keys:
    """The key of every row of a words index, ascending; deleted rows are left out, doubled ones are not.

    Empty where there is no index. Raises DamagedIndex when it cannot be read.
    """
    tantivy = _tantivy()
    if not (folder / "meta.json").exists():
        return np.zeros(0, np.int64)
    try:
        with _readable(folder) as place:
            searcher = tantivy.Index.open(str(place)).searcher()
        searcher.doc_freq(_BODY, EVERY)
        if not searcher.num_docs:
            return np.zeros(0, np.int64)
        everything = tantivy.Query.const_score_query(tantivy.Query.all_query(), 1.0)
        hits = searcher.search(everything, searcher.num_docs, count=False).hits
        keys = searcher.fast_field_values("key", [address for _, address in hits])
    except (ValueError, OSError) as error:
        raise _damaged(str(error)) from error
    return np.sort(np.asarray(keys, np.int64))


@contextmanager
def _readable(folder: Path) -> Iterator[Path]:
    """Where an index is opened: tantivy takes a lock to read, which is a file that it writes. On a disk that has turned
    read-only it opens links to the files, from elsewhere: nobody can change those meanwhile.
    """
    if not os.statvfs(folder).f_flag & os.ST_RDONLY:
        yield folder
        return
    with tempfile.TemporaryDirectory(prefix="words-") as made:
        for path in folder.iterdir():
            if not path.name.endswith(".lock"):
                (Path(made) / path.name).symlink_to(path.resolve())
        yield Path(made)


def _tantivy() -> ModuleType:
    import tantivy

    module: ModuleType = tantivy
    return module


def _schema() -> Any:  # noqa: ANN401  # tantivy has no types here
    """`every` holds one word in every row: its frequency is the N of tantivy's idf, deleted rows too."""
    builder = _tantivy().SchemaBuilder()
    builder.add_integer_field("key", indexed=True, fast=True)
    builder.add_text_field(_BODY, tokenizer_name="terms", index_option="freq")
    builder.add_text_field("every", tokenizer_name="raw", index_option="basic")
    return builder.build()


def _is_in(keys: Keys, among: Keys) -> NDArray[np.bool_]:
    """Which keys are in the sorted keys `among`."""
    if not len(among):
        return np.zeros(len(keys), np.bool_)
    there: NDArray[np.bool_] = (
        among[np.minimum(np.searchsorted(among, keys), len(among) - 1)] == keys
    )
    return there


def _ties(scores: Vectors) -> Vectors:
    """Descending scores, each replaced by the highest of its tie."""
    new = np.diff(scores, prepend=np.float32(np.inf)) < -TIE
    highest: Vectors = scores[np.flatnonzero(new)[np.cumsum(new) - 1]]
    return highest


def _damaged(why: str) -> DamagedIndex:
    return DamagedIndex(
        f"the words index cannot be read ({why}): restore it from a backup, or re-index the "
        "collection"
    )


def _refused(why: str) -> Unavailable:
    return Unavailable(f"the words index cannot be written ({why}): free some disk space")
