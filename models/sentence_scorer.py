"""How well the sentences of passages answer a question: similarity only, the caller adds the rest."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from pipeline.analyze import term_spans
from pipeline.ports import Embedder
from pipeline.types import Passage, Span, Vectors

_NO_TERM = 0.3
"""What a question's token of no term weighs, as a share of its rarest term."""


@dataclass(frozen=True, slots=True)
class TokenEncoding:
    """A text's unit token vectors (t, dim) and where each token stands in it: `places` (t, 2), start
    and end in code points, -1 for a token that shows nothing of the text (its context, a space).
    """

    vectors: Vectors
    places: NDArray[np.int64]


class TokenEncoder(Protocol):
    """Reads texts whole and gives a vector for every token."""

    async def encode_question(self, text: str) -> TokenEncoding: ...
    async def encode_tokens(self, passages: Sequence[Passage]) -> list[TokenEncoding]: ...


class TokenSentenceScorer:
    """MaxSim (Khattab and Zaharia 2020, ColBERT) of question and sentence.

    A sentence's score is the mean over the question's tokens, weighted by how rare their terms are,
    of the best cosine with a token of the sentence; the passage is read whole, so a sentence's
    tokens know what stands around it. From -1 to 1; a sentence without tokens gets 0.
    """

    def __init__(self, encoder: TokenEncoder) -> None:
        self._encoder = encoder

    async def score(
        self,
        question: str,
        weights: Mapping[str, float],
        passages: Sequence[Passage],
        sentences: Sequence[Sequence[Span]],
    ) -> list[list[float]]:
        """One list a passage, one float a sentence. Raises what the encoder raises."""
        if not any(sentences):
            return [[] for _ in passages]
        asked = await self._encoder.encode_question(question)
        importance = token_weights(question, asked.places, weights)
        read = await self._encoder.encode_tokens(passages)
        return [
            _maxsim(asked.vectors, importance, encoding, spans)
            for encoding, spans in zip(read, sentences, strict=True)
        ]


class CosineSentenceScorer:
    """The cosine of question and sentence, for embedders without token vectors."""

    def __init__(self, embedder: Embedder) -> None:
        self._embedder = embedder

    async def score(
        self,
        question: str,
        weights: Mapping[str, float],  # noqa: ARG002  the port's; one vector has no words to weigh
        passages: Sequence[Passage],
        sentences: Sequence[Sequence[Span]],
    ) -> list[list[float]]:
        """One list a passage, one float a sentence. Raises what the embedder raises."""
        texts = [
            Passage("", passage.text[span.start : span.end])
            for passage, spans in zip(passages, sentences, strict=True)
            for span in spans
        ]
        if not texts:
            return [[] for _ in passages]
        asked = (await self._embedder.embed_queries([question])).vectors[0]
        cosines = iter(((await self._embedder.embed_passages(texts)).vectors @ asked).tolist())
        return [[next(cosines) for _ in spans] for spans in sentences]


def token_weights(
    question: str, places: NDArray[np.int64], weights: Mapping[str, float]
) -> NDArray[np.float32]:
    """How much each token of a question counts, (t,), summing to 1.

    A token weighs as much as the rarest term that it overlaps, and a token of no term three tenths
    of the rarest term of all. Without any term all weigh the same.
    """
    rarest = max(weights.values(), default=0.0)
    if rarest <= 0:
        return np.full(len(places), 1 / max(1, len(places)), dtype=np.float32)
    rarity = np.zeros(len(question))
    for term, place in term_spans(question):
        covered = slice(place.start, place.end)
        rarity[covered] = np.maximum(rarity[covered], weights.get(term, 0.0))
    importance = np.full(len(places), _NO_TERM * rarest)
    for number, (start, end) in enumerate(places):
        if 0 <= start < end:
            importance[number] = max(importance[number], rarity[start:end].max())
    return np.asarray(importance / importance.sum(), dtype=np.float32)


def _maxsim(
    asked: Vectors, importance: NDArray[np.float32], read: TokenEncoding, spans: Sequence[Span]
) -> list[float]:
    cosines = asked @ read.vectors.T
    starts, ends = read.places[:, 0], read.places[:, 1]
    scores = []
    for span in spans:
        inside = (starts >= 0) & (starts < span.end) & (ends > span.start)
        best = cosines[:, inside].max(axis=1) if inside.any() else np.zeros(len(asked))
        scores.append(float(importance @ best))
    return scores
