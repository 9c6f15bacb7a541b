"""Conversations, answers and search results as HTML. Pure; everything foreign is escaped here."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from html import escape

from app.problems import ApiProblem
from app.schemas import (
    AskResponse,
    CitationOut,
    HitOut,
    SearchResponse,
    SentenceOut,
)
from ui.highlight import excerpt, marked, word_spans
from ui.passages import Passage, place
from ui.words import Words

EXTRACTIVE = "extractive"
_MARKERS = re.compile(r"\s*\[\d+\]")
_BLANK = re.compile(r"\n\s*\n")
SHOWN = 360
"""Code points of a hit that the list shows; the panel shows it whole."""
_SHOWN_LEGS = ("rerank", "fused", "dense", "words", "phrase")


@dataclass(frozen=True, slots=True)
class Exchange:
    """A question and what has come back so far: passages found, provisional text, then the answer or a problem."""

    question: str
    found: int | None = None
    text: str = ""
    answer: AskResponse | None = None
    problem: ApiProblem | None = None
    stopped: bool = False

    @property
    def open(self) -> bool:
        """Whether more is awaited."""
        return self.answer is None and self.problem is None and not self.stopped


def conversation(exchanges: Sequence[Exchange], welcome: str, words: Words) -> str:
    """The whole conversation, or the welcome while nothing was asked."""
    turns = "".join(_exchange(exchange, words) for exchange in exchanges)
    return f'<div class="zn-chat" aria-live="polite">{turns or welcome}</div>'


def welcome(examples: Sequence[str], sentence: str, words: Words) -> str:
    """What an empty conversation shows: a sentence of `words`, and questions to begin with."""
    chips = "".join(
        f'<button type="button" class="zn-chip" data-event="select" data-question="{escape(example)}">'
        f"{escape(example)}</button>"
        for example in examples
    )
    below = (
        f'<p class="zn-label">{words.examples}</p><div class="zn-chips">{chips}</div>'
        if chips
        else ""
    )
    return f'<div class="zn-welcome"><h2>{words.empty_title}</h2><p>{sentence}</p>{below}</div>'


def _exchange(exchange: Exchange, words: Words) -> str:
    question = f'<div class="zn-question"><div>{escape(exchange.question)}</div></div>'
    if exchange.answer is not None:
        reply = answer_html(exchange.answer, words)
    elif exchange.problem is not None:
        reply = problem_html(exchange.problem, words)
    else:
        reply = _provisional(exchange, words)
    return f'<section class="zn-exchange">{question}{reply}</section>'


def _provisional(exchange: Exchange, words: Words) -> str:
    text = f'<div class="zn-text">{escape(exchange.text)}</div>' if exchange.text else ""
    if exchange.stopped:
        state = f'<p class="zn-state">{words.stopped}</p>'
    elif exchange.found is None:
        state = f'<p class="zn-state zn-busy">{words.searching}</p>'
    else:
        state = f'<p class="zn-state zn-busy">{words.reading.format(count=exchange.found)}</p>'
    return f'<div class="zn-answer zn-provisional">{text}{state}</div>'


def answer_html(answer: AskResponse, words: Words) -> str:
    """A finished answer: its sentences with marker links, a card for each citation, and who wrote it."""
    if answer.refused:
        return (
            f'<div class="zn-answer zn-refused" role="note"><h3>{words.refused_title}</h3>'
            f"<p>{escape(answer.answer)}</p><p>{words.refused_hint}</p></div>"
        )
    cited = {citation.marker: citation for citation in answer.citations}
    pieces = []
    for gap, sentence in laid_out(answer.answer, answer.sentences):
        links = "".join(_marker(cited[marker]) for marker in sentence.markers if marker in cited)
        pieces.append(f"{escape(gap)}{_sentence(sentence, words)}{links}")
    cards = "".join(_card(citation, words) for citation in answer.citations)
    sources = (
        f'<p class="zn-label">{words.sources}</p><div class="zn-cards">{cards}</div>'
        if cards
        else ""
    )
    return (
        f'<div class="zn-answer"><div class="zn-text">{"".join(pieces)}</div>{sources}'
        f'<p class="zn-byline">{_byline(answer, words)}</p></div>'
    )


def laid_out(answer: str, sentences: Sequence[SentenceOut]) -> list[tuple[str, SentenceOut]]:
    """Each sentence with the white space or other text that stands before it in the answer, without markers.

    A sentence that isn't found in the answer follows the one before it after a space.
    """
    pieces: list[tuple[str, SentenceOut]] = []
    at = 0
    for sentence in sentences:
        found = answer.find(sentence.text, at)
        if found < 0:
            pieces.append((" " if pieces else "", sentence))
            continue
        pieces.append((_MARKERS.sub("", answer[at:found]), sentence))
        at = found + len(sentence.text)
    return pieces


def _sentence(sentence: SentenceOut, words: Words) -> str:
    text = escape(_MARKERS.sub("", sentence.text))
    match sentence.verdict:
        case "supported":
            return f"<span>{text}</span>"
        case "weak":
            return f'<span class="zn-weak" title="{words.weak}">{text}</span>'
        case "unsupported":
            return f'<span class="zn-unsupported" title="{words.unsupported}">{text}</span>'


def _marker(citation: CitationOut) -> str:
    passage = Passage.of(citation)
    title = escape(f"{passage.filename}: {citation.quote[:120]}")
    return (
        f'<a class="zn-marker" href="{escape(passage.href)}" title="{title}" {passage.attributes}>'
        f"[{citation.marker}]</a>"
    )


def _card(citation: CitationOut, words: Words) -> str:
    passage = Passage.of(citation)
    return (
        f'<a class="zn-card" href="{escape(passage.href)}" title="{words.open_passage}" '
        f'{passage.attributes}><span class="zn-number">{citation.marker}</span>'
        f'<span class="zn-card-body">{place(passage, words)}'
        f'<q class="zn-card-quote">{escape(citation.quote)}</q></span></a>'
    )


def _byline(answer: AskResponse, words: Words) -> str:
    by = (
        words.extractive
        if answer.model == EXTRACTIVE
        else escape(words.written_by.format(model=answer.model))
    )
    total = answer.timings_ms.get("total")
    time = "" if total is None else f" · {words.seconds.format(seconds=f'{total / 1000:.1f}')}"
    return f"{by}{time}"


def problem_html(problem: ApiProblem, words: Words) -> str:
    """A problem as a notice: the API's own sentence, or ours when nothing answered."""
    if problem.title == "Unreachable":
        title, detail = words.unreachable_title, words.unreachable
    else:
        title, detail = words.problem_title, problem.detail
    return f'<div class="zn-problem" role="alert"><h3>{escape(title)}</h3><p>{escape(detail)}</p></div>'


def notice(sentence: str) -> str:
    """A quiet line that says what was done."""
    return f'<p class="zn-notice" role="status">{escape(sentence)}</p>'


def hits_html(response: SearchResponse, query: str, words: Words) -> str:
    """The hits of a search, best first, the words of the query marked."""
    if not response.hits:
        return f'<div class="zn-empty">{words.no_hits}</div>'
    total = response.timings_ms.get("total")
    time = "" if total is None else f" · {words.seconds.format(seconds=f'{total / 1000:.2f}')}"
    count = words.hits.format(count=len(response.hits))
    cards = "".join(_hit(hit, query, words) for hit in response.hits)
    return f'<p class="zn-label">{count}{time}</p><div class="zn-hits">{cards}</div>'


def _hit(hit: HitOut, query: str, words: Words) -> str:
    passage = Passage.of(hit)
    spans = word_spans(query, hit.text)
    start, end = excerpt(hit.text, spans, SHOWN)
    inside = [(a - start, b - start) for a, b in spans if start <= a and b <= end]
    text = "".join(
        f"<mark>{escape(piece)}</mark>" if is_marked else escape(piece)
        for piece, is_marked in marked(hit.text[start:end].rstrip(), inside)
    )
    # The list is for choosing: blank lines would only take the place of words.
    text = _BLANK.sub("\n", text.lstrip())
    text = f"{'…' if start else ''}{text}{'…' if end < len(hit.text) else ''}"
    legs = sorted(
        hit.scores.items(),
        key=lambda item: _SHOWN_LEGS.index(item[0]) if item[0] in _SHOWN_LEGS else 9,
    )
    scores = "".join(
        f'<span class="zn-score"><i>{escape(words.legs.get(leg, leg))}</i>{score:.3f}</span>'
        for leg, score in legs
    )
    return (
        f'<article class="zn-hit"><a class="zn-hit-head" href="{escape(passage.href)}" '
        f'title="{words.open_passage}" {passage.attributes}>'
        f'<span class="zn-number">{hit.rank}</span>{place(passage, words)}</a>'
        f'<div class="zn-hit-text">{text}</div>'
        f'<div class="zn-scores"><span class="zn-score zn-score-main"><i>{words.score}</i>{hit.score:.3f}</span>'
        f"{scores}</div></article>"
    )
