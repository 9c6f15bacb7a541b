"""The path from a question to a cited answer, as a stream of events that ends with the whole answer."""

import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace

from pipeline.analyze import script_of
from pipeline.cite import cite, claims, named
from pipeline.errors import InvalidInput, TooLarge
from pipeline.extract import Evidence, choose, quotable, refused, weigh_sentences
from pipeline.pack import cost, pack
from pipeline.ports import ChatModel, Snapshot
from pipeline.prompt import NOT_FOUND, build, refusal, rules
from pipeline.retrieve import Retrieved, Retriever
from pipeline.rows import reading, under_columns
from pipeline.types import (
    Answer,
    AnswerMode,
    Chunk,
    Citation,
    DocumentId,
    Hit,
    Message,
    Query,
    Script,
    Sentence,
    Span,
    Usage,
    Verdict,
)
from pipeline.verify import support, verdict

EXTRACTIVE = "extractive"
"""The model's name in an answer that is made of the documents' own sentences."""

_MOST_SENTENCES = 2
_ANSWER_TOKENS = 1024
_DOCUMENT_PASSAGES = 12
_CHAT_PASSAGES = 8
_JOINED_CHARACTERS = 1000


@dataclass(frozen=True, slots=True)
class Question:
    """A request for an answer. `documents` None means the whole collection; `top_k` passages are read."""

    text: str
    collection: str = "default"
    history: tuple[Message, ...] = ()
    mode: AnswerMode = AnswerMode.AUTO
    documents: tuple[DocumentId, ...] | None = None
    top_k: int | None = None


@dataclass(frozen=True, slots=True)
class Found:
    """The passages that the answer is made from, best first."""

    hits: tuple[Hit, ...]
    timings_ms: dict[str, float]


@dataclass(frozen=True, slots=True)
class Token:
    """A provisional piece of the answer's text."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The whole answer, verified and cited; it replaces the tokens."""

    answer: Answer


Event = Found | Token | Finished


class Answerer:
    """Answers with a chat model, or with the documents' own sentences when `chat` is None."""

    def __init__(
        self,
        retriever: Retriever,
        chat: ChatModel | None,
    ) -> None:
        self._retriever = retriever
        self._chat = chat

    @property
    def model(self) -> str:
        return self._chat.name if self._chat else EXTRACTIVE

    async def stream(self, question: Question) -> AsyncGenerator[Event, None]:
        """Found, then tokens, then Finished. Raises RagErrors before the first event, or in mid-stream."""
        mode = await self._mode(question)
        found, evidence = await self._find(question, mode)
        yield Found(found.hits, dict(found.timings_ms))
        reads_whole = self._chat is not None and mode is AnswerMode.DOCUMENT
        if not reads_whole and refused(
            evidence, question.text, found.space.calibration.refuse_below
        ):
            yield Finished(self._declined(question, mode))
            return
        if self._chat is None:
            answer = self._extracted(choose(evidence, _MOST_SENTENCES, question.text), mode)
            yield Token(answer.text)
            yield Finished(await self._located(answer, found.snapshot))
            return
        context = await self._chat.context_tokens()
        chunks = await self._retriever.run(self._passages, question, mode, found, context)
        text, usage = "", Usage()
        messages = build(question.text, chunks, question.history)
        # Closed at once when the reader leaves, so that the model stops writing.
        async with aclosing(self._chat.stream(messages, max_tokens=_ANSWER_TOKENS)) as pieces:
            async for piece in pieces:
                if isinstance(piece, Usage):
                    usage = piece
                    continue
                text += piece
                yield Token(piece)
        written = await self._retriever.run(
            self._written, question, mode, text, chunks, found.snapshot
        )
        yield Finished(await self._located(replace(written, usage=usage), found.snapshot))

    async def _located(self, answer: Answer, snapshot: Snapshot) -> Answer:
        return replace(answer, citations=await self._retriever.located(snapshot, answer.citations))

    async def _mode(self, question: Question) -> AnswerMode:
        """`auto` reads the named documents whole when a chat model has room for them."""
        if question.mode is AnswerMode.DOCUMENT:
            if not question.documents:
                raise InvalidInput(
                    'mode "document" reads whole documents: name them in document_ids, or use mode "chunks"'
                )
            return AnswerMode.DOCUMENT
        if question.mode is AnswerMode.CHUNKS or not question.documents or self._chat is None:
            return AnswerMode.CHUNKS
        mode, context = AnswerMode.DOCUMENT, await self._chat.context_tokens()
        try:
            found = await self._search(question.text, question, mode)
            await self._retriever.run(self._passages, question, mode, found, context)
        except TooLarge:
            return AnswerMode.CHUNKS
        return mode

    async def _find(self, question: Question, mode: AnswerMode) -> tuple[Retrieved, list[Evidence]]:
        """The best passages and their scored sentences; a follow-up that finds nothing is read with its question."""
        found = await self._search(question.text, question, mode)
        evidence = await self.evidence(question.text, found)
        asked = [turn.content for turn in question.history if turn.role == "user"]
        if asked and refused(evidence, question.text, found.space.calibration.refuse_below):
            joined = f"{asked[-1][:_JOINED_CHARACTERS]}\n{question.text}"
            again = await self._search(joined, question, mode)
            more = await self.evidence(joined, again)
            if not refused(more, joined, again.space.calibration.refuse_below):
                return again, more
        return found, evidence

    async def _search(self, text: str, question: Question, mode: AnswerMode) -> Retrieved:
        query = Query(text, question.collection, documents=question.documents)
        if mode is AnswerMode.DOCUMENT:
            return await self._retriever.read(query)
        top_k = question.top_k or (
            _CHAT_PASSAGES if self._chat else self._retriever.answer_passages
        )
        return await self._retriever.search(replace(query, top_k=top_k))

    async def evidence(self, text: str, found: Retrieved) -> list[Evidence]:
        """The sentences of the best passages, best first.

        Of a whole document every sentence is weighed by its words and its passage; the twelve passages with the best
        ones are then read by the scorer. Otherwise the scorer reads the best three passages.
        """
        hits, spans = await self._retriever.run(self._readable, found)
        passages = [
            under_columns(hit.chunk.context, hit.chunk.text, hit.chunk.tables) for hit in hits
        ]
        similarities = await found.space.scorer.score(text, found.terms.idf, passages, spans)
        return weigh_sentences(
            hits, spans, similarities, found.terms.weights, found.space.calibration
        )

    def _readable(self, found: Retrieved) -> tuple[list[Hit], list[list[Span]]]:
        hits = list(found.hits)
        if not found.whole:
            hits = hits[: found.space.calibration.answer_passages]
        spans = [quotable(hit.chunk) for hit in hits]
        if len(hits) <= _DOCUMENT_PASSAGES:
            return hits, spans
        nothing = [[0.0] * len(own) for own in spans]
        rough = weigh_sentences(hits, spans, nothing, found.terms.weights, found.space.calibration)
        kept = set(list(dict.fromkeys(e.chunk.id for e in rough))[:_DOCUMENT_PASSAGES])
        pairs = [(h, own) for h, own in zip(hits, spans, strict=True) if h.chunk.id in kept]
        return [h for h, _ in pairs], [own for _, own in pairs]

    def _passages(
        self, question: Question, mode: AnswerMode, found: Retrieved, context: int
    ) -> list[Chunk]:
        assert self._chat is not None
        count = self._chat.count_tokens
        asked = rules(question.text) + question.text + "".join(m.content for m in question.history)
        budget = context - _ANSWER_TOKENS - count(asked) - 64
        chunks = [hit.chunk for hit in found.hits]
        if mode is AnswerMode.DOCUMENT:
            chunks.sort(key=lambda chunk: (chunk.document, chunk.start))
            needed = sum(cost(chunk, count) for chunk in chunks)
            if needed > budget:
                raise TooLarge(
                    f"the chosen documents take {needed} tokens and the model {self._chat.name} has room for "
                    f'{max(0, budget)}: choose fewer documents, or use mode "chunks"'
                )
            return chunks
        packed = pack(chunks, budget, count)
        if not packed:
            raise TooLarge(
                "question and history leave no room for a passage in the model's context: shorten the history"
            )
        return packed

    def _declined(self, question: Question, mode: AnswerMode) -> Answer:
        return Answer(
            _new_id(), refusal(question.text), (), (), mode, refused=True, model=self.model
        )

    def _extracted(self, chosen: Sequence[Evidence], mode: AnswerMode) -> Answer:
        citations = tuple(
            cite(marker, evidence.chunk, evidence.span) for marker, evidence in enumerate(chosen, 1)
        )
        said = [reading(evidence.chunk).of(evidence.span) for evidence in chosen]
        quoted = tuple(
            Sentence(" ".join(words.split()), (c.marker,), 1.0, Verdict.SUPPORTED)
            for words, c in zip(said, citations, strict=True)
        )
        return Answer(
            _new_id(), _joined(quoted), quoted, citations, mode, refused=False, model=self.model
        )

    def _written(
        self,
        question: Question,
        mode: AnswerMode,
        text: str,
        chunks: Sequence[Chunk],
        snapshot: Snapshot,
    ) -> Answer:
        """A chat model's text as sentences with verified citations; markers of no passage are dropped."""
        if text.strip(" \n\"'“”`*。.[]") in (NOT_FOUND, ""):
            return self._declined(question, mode)
        citations: dict[tuple[str, int, int], Citation] = {}
        written: list[Sentence] = []
        for words, numbers in claims(text):
            weights = self._retriever.weigh(snapshot, words).weights
            markers: list[int] = []
            best_share, best_verdict = 0.0, Verdict.UNSUPPORTED
            for chunk in named(numbers, chunks):
                read = reading(chunk)
                span = max(
                    quotable(chunk),
                    key=lambda s, r=read, w=weights: support(w, r.of(s)),  # type: ignore[misc]
                    default=None,
                )
                if span is None:
                    continue
                made = cite(len(citations) + 1, chunk, span)
                made = citations.setdefault((made.chunk, made.start, made.end), made)
                markers.append(made.marker)
                share = support(weights, read.text)
                if share >= best_share:
                    best_share, best_verdict = share, verdict(words, read.text, share)
            written.append(Sentence(words, tuple(markers), round(best_share, 4), best_verdict))
        return Answer(
            _new_id(),
            _joined(written),
            tuple(written),
            tuple(citations.values()),
            mode,
            refused=False,
            model=self.model,
        )


def _joined(written: Sequence[Sentence]) -> str:
    """One text with markers; no space between Chinese sentences."""
    text = ""
    for sentence in written:
        marks = "".join(f"[{marker}]" for marker in sentence.markers)
        gap = "" if not text or script_of(sentence.text) is Script.HAN else " "
        text += f"{gap}{sentence.text}{marks}"
    return text


def _new_id() -> str:
    return f"ans_{uuid.uuid4().hex}"
