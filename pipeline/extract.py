"""Answers made of the documents' own sentences: pure selection among scored sentences."""

import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from pipeline.analyze import coverage, terms
from pipeline.calibration import Calibration
from pipeline.mentions import identifiers, quantities
from pipeline.rows import cells, rows
from pipeline.sentences import sentences
from pipeline.types import LISTING, Chunk, Hit, Leg, Span

_QUESTION = re.compile(r"[?？][\"'”’」』)）]*$")
_SECOND_WITHIN = 0.08
"""A second sentence is shown when its score is this close to the best one's; measured in docs/quality.md."""
_SECOND_ROW_WITHIN = 0.02
"""As `_SECOND_WITHIN`, for two rows of tables: a question about one row is nearly as near to all others."""
_LONGEST_ROW = 400
"""Code points of a table's row that is quoted whole."""
_MOST_STANDING_OUT = 0.05
"""What standing out among the rows of a table counts at most. Set on the generated tables of bench/spreadsheets.py."""
_NUMBER_ASKED = 0.06
"""What a sentence with a number gains where a number is asked for, in the choice alone. Set on the small collections
and the samples of docs/quality.md, not on the evaluation sets."""

_NAMED_ROW = 0.06
"""What a row gains whose cell is an identifier of the question: a code, an article's or an order's number. Set on the
samples and on the generated tables."""
_SAME_QUANTITIES = 0.03
"""What a sentence gains, in the choice alone, that holds every quantity of the question."""

_ASKS_NUMBER = re.compile(
    r"多少|几[^乎]|多[久长高大远快重深宽]|何时|什么时[候间]|哪一?[年天日月]|"
    r"\b(?:how (?:many|much|long|old|far|often|tall|high|large|big|deep|fast|heavy|soon|late|early)|when|"
    r"(?:what|which) (?:year|time|date|day|month|percentage|number|age|price|amount|level|temperature))\b",
    re.IGNORECASE,
)
_NUMBER = re.compile(
    r"\d|[零〇一二两三四五六七八九十百千万亿半]|\b(?:one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|"
    r"(?:thir|four|fif|six|seven|eigh|nine)teen|(?:twen|thir|for|fif|six|seven|eigh|nine)ty|hundred|thousand|"
    r"[mb]illion|half|dozen|once|twice|first|second|third)\b",
    re.IGNORECASE,
)


@dataclass(frozen=True, slots=True)
class Evidence:
    """A sentence of a chunk and how well it answers; `span` counts in the chunk's text."""

    chunk: Chunk
    span: Span
    score: float

    @property
    def quote(self) -> str:
        return self.chunk.text[self.span.start : self.span.end]


def page_of(chunk: Chunk, weights: Mapping[str, float]) -> int | None:
    """The page of the sentence that holds most of a query, for a chunk that goes over several.

    `weights` are the query's terms, summing to 1. Where no sentence holds any of them (a query in another language), it
    is the page with most of the text.
    """
    if not chunk.turns:
        return chunk.page
    begins = [(0, chunk.page), *chunk.turns]
    ends = [*(at for at, _ in chunk.turns), len(chunk.text)]
    best = max(
        sentences(chunk.text),
        key=lambda span: _held(weights, chunk.text[span.start : span.end]),
        default=Span(0, 0),
    )
    if _held(weights, chunk.text[best.start : best.end]):
        return next(page for at, page in reversed(begins) if at <= best.start)
    sizes = [(end - at, page) for (at, page), end in zip(begins, ends, strict=True)]
    return max(sizes, key=lambda size: size[0])[1]


def _held(weights: Mapping[str, float], text: str) -> float:
    """The share of the terms that a sentence holds, shorter ones first among equals."""
    found = set(terms(text))
    held = sum(weight for term, weight in weights.items() if term in found)
    return held - 1e-3 * min(1.0, len(found) / 1000) if held else 0.0


def quotable(chunk: Chunk) -> list[Span]:
    """The sentences of a chunk that may be quoted: no headings, no questions, nothing without a term.

    A row of a table is quoted whole, the header never. The title counts as a heading, with a label before it too: the
    subject line of a mail answers nothing, and neither do the names of files in an archive.
    """
    found: list[Span] = []
    if chunk.heading == LISTING:
        return found
    headings = {*chunk.heading, *chunk.context.split("\n")}
    for span in _units(chunk):
        words = chunk.text[span.start : span.end]
        repeated = words in headings or words.partition(": ")[2] in headings - {""}
        if not repeated and not _QUESTION.search(words) and terms(words):
            found.append(span)
    return found


def _units(chunk: Chunk) -> Iterator[Span]:
    """Sentences and rows in order; of a row of prose the sentences of its cells."""
    at = 0
    for table in chunk.tables:
        yield from _sentences(chunk.text, at, table.start)
        at = table.end
        for row in rows(chunk.text, table):
            if row.end - row.start <= _LONGEST_ROW:
                yield row
                continue
            for cell in cells(chunk.text, table):
                if row.start <= cell.start and cell.end <= row.end:
                    yield from _sentences(chunk.text, cell.start, cell.end)
    yield from _sentences(chunk.text, at, len(chunk.text))


def _sentences(text: str, start: int, end: int) -> Iterator[Span]:
    for span in sentences(text[start:end]):
        yield Span(start + span.start, start + span.end)


def weigh_sentences(
    hits: Sequence[Hit],
    spans: Sequence[Sequence[Span]],
    similarities: Sequence[Sequence[float]],
    weights: Mapping[str, float],
    calibration: Calibration,
) -> list[Evidence]:
    """Every sentence with similarity + 0.2 coverage + 0.5 passage score, best first.

    A row of a table counts with the words of its cells alone. The names of its columns stand for every row: with them
    a question about a row that is not there would find its column everywhere (measured in docs/quality.md).
    """
    found = [
        [terms(hit.chunk.text[span.start : span.end]) for span in own]
        for hit, own in zip(hits, spans, strict=True)
    ]
    lengths = [len(sentence) for own in found for sentence in own]
    average = max(1.0, sum(lengths) / len(lengths)) if lengths else 1.0
    evidence = [
        Evidence(
            hit.chunk,
            span,
            similarity
            + calibration.sentence_words
            * coverage(weights, sentence, average, b=calibration.sentence_b)
            + calibration.sentence_passage * hit.scores.get(Leg.FUSED, hit.score),
        )
        for hit, own, sentence_terms, values in zip(hits, spans, found, similarities, strict=True)
        for span, sentence, similarity in zip(own, sentence_terms, values, strict=True)
    ]
    return sorted(evidence, key=lambda e: (-e.score, e.chunk.key, e.span.start))


def asks_for_number(question: str) -> bool:
    """Whether a question asks how many, how much, how long or when.

    >>> asks_for_number("保修期多长？"), asks_for_number("When does it open?"), asks_for_number("Who paid?")
    (True, True, False)
    """
    return bool(_ASKS_NUMBER.search(question))


def has_number(text: str) -> bool:
    """Whether a text names a number, in digits or in words.

    >>> has_number("三十六个月"), has_number("thirty months"), has_number("in the library")
    (True, True, False)
    """
    return bool(_NUMBER.search(text))


def choose(evidence: Sequence[Evidence], most: int, question: str) -> list[Evidence]:
    """The best sentence and, where it is nearly as good, the next; those of one chunk in reading order.

    Where the question asks for a number, sentences that name one come before others that are a little better; so do
    those that hold all of its quantities ("满五年" is "满5年"), and the rows that it names. Beside a row that it names
    stands only what holds the same identifier.
    """
    asks, held, names = asks_for_number(question), quantities(question), identifiers(question)
    fit = [
        (e.score + _gain(e, names, held, asks=asks), e)
        for e in evidence
        if not _of_another(e, names)
    ]
    fit.sort(key=lambda pair: -pair[0])
    chosen: list[Evidence] = []
    said: set[str] = set()
    for score, other in fit:
        if len(chosen) == most or score < fit[0][0] - _SECOND_WITHIN:
            break
        words = "".join(other.quote.split())
        beside = chosen and _is_row(other) and _is_row(chosen[0])
        stranger = chosen and _named(chosen[0], names) and not names & identifiers(other.quote)
        near = score >= fit[0][0] - _SECOND_ROW_WITHIN
        if words not in said and (near or not beside) and not stranger:
            said.add(words)
            chosen.append(other)
    if len({e.chunk.id for e in chosen}) == 1:
        chosen.sort(key=lambda e: e.span.start)
    return chosen


def _gain(
    evidence: Evidence,
    names: frozenset[str],
    held: frozenset[tuple[str, str]],
    *,
    asks: bool,
) -> float:
    gain = _NUMBER_ASKED if asks and has_number(evidence.quote) else 0.0
    if held and held <= quantities(evidence.quote):
        gain += _SAME_QUANTITIES
    return gain + _NAMED_ROW * _named(evidence, names)


def _named(evidence: Evidence, names: frozenset[str]) -> bool:
    """Whether it is a row that has an identifier as one of its cells."""
    if not names or not _is_row(evidence):
        return False
    found = re.split(r"\s*\|\s*", evidence.quote)
    return any(names & identifiers(cell) == {cell.strip().casefold()} for cell in found)


def _of_another(evidence: Evidence, names: frozenset[str]) -> bool:
    """Whether it is a row of a code like one of the question, but of none of those: E08 where E09 is asked for."""
    if not names or not _is_row(evidence) or names & identifiers(evidence.quote):
        return False
    first = identifiers(evidence.quote.partition("|")[0])
    return bool(set(map(_shape, first)) & set(map(_shape, names)))


def _shape(identifier: str) -> str:
    """The identifier, each digit a zero.

    >>> _shape("cx-200")
    'cx-000'
    """
    return re.sub(r"\d", "0", identifier)


def refused(evidence: Sequence[Evidence], question: str, refuse_below: float | None) -> bool:
    """Whether nothing found answers: no sentence at all, or the best one is under the threshold.

    The rows of a table are alike, and a question names one of them: the best row gains what it is better by than the
    next one of its document, and a row whose cell is an identifier of the question gains `_NAMED_ROW`. A row of another
    identifier is no evidence.
    """
    names = identifiers(question)
    evidence = [e for e in evidence if not _of_another(e, names)]
    if not evidence:
        return True
    if refuse_below is None:
        return False
    named = next((e.score + _NAMED_ROW for e in evidence if _named(e, names)), -1.0)
    return max(evidence[0].score + _standing_out(evidence), named) < refuse_below


def _standing_out(evidence: Sequence[Evidence]) -> float:
    best, *others = evidence
    if not _is_row(best):
        return 0.0
    rows_beside = (e for e in others if e.chunk.document == best.chunk.document and _is_row(e))
    following = next(rows_beside, None)
    return 0.0 if following is None else min(best.score - following.score, _MOST_STANDING_OUT)


def _is_row(evidence: Evidence) -> bool:
    span = evidence.span
    return any(t.start <= span.start and span.end <= t.end for t in evidence.chunk.tables)
