"""Scores of several legs to one. Pure arithmetic on arrays; every array has one entry a candidate."""

from collections.abc import Mapping, Sequence

import numpy as np

from pipeline.calibration import Calibration
from pipeline.types import Script, SearchMode, Vectors


def shifted(cosines: Vectors, scripts: Sequence[Script], means: Mapping[Script, float]) -> Vectors:
    """Cosines less the query's mean cosine with the passages of each one's script.

    A question in one language has cosines about 0.1 lower with every passage of another; without
    the shift it finds
    nothing there while any passage of its own language is in the index (NDCG@10 .04 against .84,
    docs/quality.md).
    """
    return np.asarray(
        [c - means.get(s, 0.0) for c, s in zip(cosines, scripts, strict=True)], dtype=np.float32
    )


def fused(
    cosines: Vectors, words: Vectors, phrases: Vectors, mode: SearchMode, calibration: Calibration
) -> Vectors:
    """S = shifted cosine + 0.15 coverage + 0.10 phrase; a mode leaves the other leg out."""
    lexical = calibration.words * words + calibration.phrase * phrases
    match mode:
        case SearchMode.HYBRID:
            return np.asarray(cosines + lexical, dtype=np.float32)
        case SearchMode.DENSE:
            return cosines
        case SearchMode.WORDS:
            return np.asarray(lexical, dtype=np.float32)


def reranked(scores: Vectors, rerank: Vectors, scripts: Sequence[Script], weight: float) -> Vectors:
    """Fused scores (best first) plus the weighted rerank scores, each less its script's level.

    The level of a script is the mean rerank score of the lower-placed half of its 15 best: those
    are rarely right, so
    it says what a wrong passage of that script gets.
    """
    level = {
        script: _level([r for r, s in zip(rerank, scripts, strict=True) if s is script])
        for script in set(scripts)
    }
    shift = np.asarray([level[s] for s in scripts], dtype=np.float32)
    return np.asarray(scores + weight * (rerank - shift), dtype=np.float32)


def _level(best_first: Sequence[float]) -> float:
    best = best_first[:15]
    return float(np.mean(best[len(best) // 2 :]))
