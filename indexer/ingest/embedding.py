"""Chunks to rows: what was embedded before is taken over, the rest is embedded, and kept as it comes."""

from collections.abc import Callable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from indexer.ingest.reuse import StoredRow
from indexer.ingest.unfinished import Row, Unfinished, digest_of
from indexer.segments.segment import Staged
from indexer.text.chunk import Cut
from pipeline.ports import Embedder
from pipeline.quantise import quantise
from pipeline.types import Passage

BATCH = 16


async def embed_cuts(
    embedder: Embedder,
    cuts: Sequence[Cut],
    *,
    tokens: bool,
    live: Mapping[Passage, StoredRow],
    unfinished: Unfinished,
    say: Callable[[int], None],
) -> Staged:
    """One row a chunk, with token vectors where they are wanted and the embedder has some.

    Nothing is embedded that stands in `live`, the version before, or that an earlier attempt at this one kept.
    `say` hears how many rows are there. Long and short chunks go through in batches of like length, so that little is
    padded. Token vectors are kept as int8 at once: as float32 those of a large document would take gigabytes.
    """
    tokens = tokens and embedder.token_dim is not None
    vectors = np.zeros((len(cuts), embedder.dim), dtype=np.float16)
    codes: dict[int, NDArray[np.int8]] = {}
    kept = unfinished.rows()
    new: list[int] = []
    for i, cut in enumerate(cuts):
        row: StoredRow | Row | None = live.get(cut.passage) or kept.get(digest_of(cut.passage))
        own = row.tokens if row is not None and tokens else None
        if row is None or (tokens and own is None):
            new.append(i)
            continue
        vectors[i] = row.vector
        if own is not None:
            codes[i] = np.array(own)
    order = sorted(new, key=lambda i: len(cuts[i].text))
    for start in range(0, len(order), BATCH):
        say(len(cuts) - len(order) + start)
        batch = order[start : start + BATCH]
        passages = [cuts[i].passage for i in batch]
        embedded = await embedder.embed_passages(passages)
        vectors[batch] = embedded.vectors
        quantised = None
        if tokens and embedded.tokens is not None:
            quantised = [quantise(one) for one in embedded.tokens]
            codes.update(zip(batch, quantised, strict=True))
        if len(order) > BATCH:
            unfinished.keep_rows(passages, vectors[batch], quantised)
    stored = tuple(codes[i] for i in range(len(cuts))) if codes else None
    return Staged(vectors, stored, tuple(cut.script for cut in cuts))
