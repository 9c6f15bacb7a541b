"""Which hidden state feeds the reranker's head: decided by scoring labelled pairs.

The prompt of a pair ends in `...<|im_start|>assistant` newline `0` `<|im_end|>` newline. No public
source says at which of these tokens the published head reads. At the wrong one its scores are noise,
so each candidate is measured by the area under the ROC curve (AUC), the share of relevant and
irrelevant passages that are in the right order.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from importlib.resources import files
from pathlib import Path

from models.checkpoint.errors import DamagedCheckpoint
from pipeline.errors import InvalidInput

_DEVIATIONS = 3.0
_LEAST = 8


class ScorePosition(Enum):
    """Where the head reads: most likely first."""

    BEFORE_PLACEHOLDER = "before_placeholder"
    PLACEHOLDER = "placeholder"
    LAST = "last"
    MEAN = "mean"


@dataclass(frozen=True, slots=True)
class Pair:
    """A query and a passage, and whether the passage answers it."""

    query: str
    passage: str
    relevant: bool


@dataclass(frozen=True, slots=True)
class Decision:
    """The AUC of every candidate, the one that works or None, and a sentence about it."""

    auc: Mapping[ScorePosition, float]
    winner: ScorePosition | None
    says: str


def read_pairs(path: Path | None = None) -> list[Pair]:
    """The pairs of a file of JSON lines {query, passage, label}, by default those that ship.

    Raises InvalidInput naming the line that is wrong, and for fewer than eight of either kind.
    """
    shipped = files("models").joinpath("data/rerank_probe.jsonl")
    try:
        text = path.read_text("utf-8") if path else shipped.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"{path} cannot be read as a file of pairs: {error}.") from error
    pairs = []
    for number, line in enumerate(filter(str.strip, text.splitlines()), start=1):
        try:
            row = json.loads(line)
            pairs.append(Pair(str(row["query"]), str(row["passage"]), int(row["label"]) > 0))
        except (ValueError, KeyError, TypeError) as error:
            raise InvalidInput(
                f"line {number} of {path or shipped} is not a pair: write "
                '{"query": ..., "passage": ..., "label": 0 or 1}.'
            ) from error
    relevant = sum(pair.relevant for pair in pairs)
    if min(relevant, len(pairs) - relevant) < _LEAST:
        raise InvalidInput(
            f"{path or shipped} has {relevant} relevant pairs of {len(pairs)}: at least {_LEAST} "
            "of either kind are needed to tell a score from chance."
        )
    return pairs


def auc(scores: Sequence[float], relevant: Sequence[bool]) -> float:
    """The share of (relevant, irrelevant) pairs in the right order; a tie counts one half."""
    good = [score for score, yes in zip(scores, relevant, strict=True) if yes]
    bad = [score for score, yes in zip(scores, relevant, strict=True) if not yes]
    right = sum((g > b) + (g == b) / 2 for g in good for b in bad)
    return float(right / (len(good) * len(bad)))


def chance_limit(relevant: int, irrelevant: int) -> float:
    """The AUC that scores without any meaning stay under.

    Their AUC has mean 1/2 and variance (m + n + 1) / (12 m n) (Mann and Whitney 1947); the limit
    is three standard deviations above the mean.
    """
    variance = (relevant + irrelevant + 1) / (12 * relevant * irrelevant)
    return 0.5 + _DEVIATIONS * math.sqrt(variance)


def decide(scores: Mapping[ScorePosition, Sequence[float]], relevant: Sequence[bool]) -> Decision:
    """The candidate with the best AUC, if that is clearly better than chance.

    Between equal ones the likelier wins (the order of ScorePosition). Scores that are not numbers
    are DamagedCheckpoint.
    """
    if not all(math.isfinite(score) for row in scores.values() for score in row):
        raise DamagedCheckpoint(
            "the reranker's scores are not numbers (NaN or infinite): its weights are damaged, or "
            "its dtype is too small; verify it in float32."
        )
    found = {position: auc(scores[position], relevant) for position in ScorePosition}
    limit = chance_limit(sum(relevant), len(relevant) - sum(relevant))
    best = max(ScorePosition, key=lambda position: found[position])
    table = ", ".join(f"{position.value} {value:.3f}" for position, value in found.items())
    if found[best] < limit:
        return Decision(
            found,
            None,
            f"No position is clearly better than chance (AUC: {table}; at least {limit:.3f} is "
            "needed): nothing was recorded. Check that the weights are complete, or give more "
            "labelled pairs.",
        )
    return Decision(found, best, f"The head reads at {best.value} (AUC: {table}).")
