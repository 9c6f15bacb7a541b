"""The read path on a real index with a hash embedder: what is cited is what stands there."""

from dataclasses import replace

import pytest
from library import CALIBRATION, Library

from models.fakes import ScriptedChat
from pipeline.answer import Finished, Found, Question, Token
from pipeline.errors import InvalidInput, NotFound, TooLarge
from pipeline.types import Answer, AnswerMode, Leg, Message, Query, SearchMode, Verdict

WARRANTY = (
    "The warranty of the kettle lasts thirty months. The warranty covers parts and labour. "
    "Damage by lime is not covered. Send the kettle to the service centre in Leeds."
)
LEASE = "The rent of the flat is 900 pounds. The rent is due on the first day of each month."


@pytest.fixture
def shelf(library: Library) -> Library:
    library.add("warranty.txt", WARRANTY)
    library.add("lease.txt", LEASE)
    return library


async def ask(library: Library, question: Question, *pieces: str, **changes: object) -> Answer:
    chat = ScriptedChat(pieces) if pieces else None
    calibration = replace(CALIBRATION, **changes)
    events = [event async for event in library.answerer(chat, calibration).stream(question)]
    assert isinstance(events[0], Found)
    assert all(isinstance(event, Token) for event in events[1:-1])
    assert isinstance(events[-1], Finished)
    return events[-1].answer


def text_of(library: Library, answer: Answer) -> None:
    for citation in answer.citations:
        text = library.catalog.text(citation.document, citation.version)
        assert citation.quote == text[citation.start : citation.end]


async def test_an_extractive_answer_is_made_of_quotes(shelf: Library) -> None:
    answer = await ask(shelf, Question("How long does the warranty of the kettle last?"))
    assert answer.model == "extractive"
    assert answer.citations[0].quote == "The warranty of the kettle lasts thirty months."
    assert len(answer.sentences) <= 2
    assert all(s.verdict is Verdict.SUPPORTED and s.markers for s in answer.sentences)
    text_of(shelf, answer)


async def test_nothing_good_enough_is_declined_in_the_questions_language(shelf: Library) -> None:
    english = await ask(shelf, Question("Who rules Mars?"), refuse_below=9.0)
    chinese = await ask(shelf, Question("火星由谁统治？"), refuse_below=9.0)
    assert english.refused
    assert english.text.startswith("Nothing")
    assert chinese.text.startswith("在已上传")
    assert not english.citations


async def test_an_empty_collection_declines(library: Library) -> None:
    assert (await ask(library, Question("How long is the warranty?"))).refused


async def test_a_written_answer_is_cut_into_verified_and_cited_sentences(shelf: Library) -> None:
    answer = await ask(
        shelf,
        Question("How long does the warranty of the kettle last?"),
        "The warranty lasts thirty ",
        "months [1]. The warranty covers 99 parts [1]. Whales sing at night [1][7]. No marker here.",
    )
    assert answer.model != "extractive"
    verdicts = [sentence.verdict for sentence in answer.sentences]
    assert verdicts == [
        Verdict.SUPPORTED,
        Verdict.UNSUPPORTED,  # the passage has no 99
        Verdict.UNSUPPORTED,
        Verdict.UNSUPPORTED,
    ]
    assert answer.sentences[3].markers == ()
    assert answer.citations[0].quote == "The warranty of the kettle lasts thirty months."
    text_of(shelf, answer)


async def test_a_model_that_finds_nothing_declines(shelf: Library) -> None:
    answer = await ask(shelf, Question("How long does the warranty last?"), "NOT_", "FOUND")
    assert answer.refused
    assert "NOT_FOUND" not in answer.text


async def test_document_mode_reads_the_chosen_documents_whole_or_says_that_they_do_not_fit(
    shelf: Library,
) -> None:
    documents = tuple(view.id for view in shelf.catalog.documents()[0])
    question = Question(
        "Where is the service centre?", mode=AnswerMode.DOCUMENT, documents=documents
    )
    answer = await ask(shelf, question)
    assert answer.mode is AnswerMode.DOCUMENT
    assert answer.citations[0].quote == "Send the kettle to the service centre in Leeds."
    small = ScriptedChat(["x"], context_tokens=1100)
    with pytest.raises(TooLarge, match="choose fewer documents"):
        [event async for event in shelf.answerer(small).stream(question)]
    with pytest.raises(InvalidInput, match="document_ids"):
        [event async for event in shelf.answerer().stream(replace(question, documents=None))]
    with pytest.raises(NotFound):
        [
            event
            async for event in shelf.answerer().stream(replace(question, documents=("missing",)))
        ]


async def test_named_documents_are_read_whole_where_a_chat_model_has_room(shelf: Library) -> None:
    documents = tuple(view.id for view in shelf.catalog.documents()[0])
    question = Question("Where is the service centre?", documents=documents)
    written = "In Leeds [1]."
    assert (await ask(shelf, question, written)).mode is AnswerMode.DOCUMENT
    assert (await ask(shelf, question)).mode is AnswerMode.CHUNKS
    anywhere = replace(question, documents=None)
    assert (await ask(shelf, anywhere, written)).mode is AnswerMode.CHUNKS
    small = ScriptedChat([written], context_tokens=1240)
    *_, finished = [event async for event in shelf.answerer(small).stream(question)]
    assert finished.answer.mode is AnswerMode.CHUNKS


async def test_a_follow_up_is_read_with_its_question(shelf: Library) -> None:
    history = (
        Message("user", "How long does the warranty of the kettle last?"),
        Message("assistant", "..."),
    )
    alone = await ask(shelf, Question("Anything further?"), refuse_below=0.35)
    together = await ask(shelf, Question("Anything further?", history=history), refuse_below=0.35)
    assert alone.refused
    assert not together.refused


@pytest.mark.parametrize("mode", list(SearchMode))
async def test_top_k_hits_come_back_whenever_they_exist(library: Library, mode: SearchMode) -> None:
    for n in range(12):
        library.add(f"{n}.txt", f"The walrus number {n} sleeps on the ice.")
    found = await library.retriever.search(Query("walrus", top_k=10, mode=mode))
    assert len(found.hits) == 10
    assert len({hit.chunk.key for hit in found.hits}) == 10


async def test_a_collection_without_token_vectors_is_searched_without_the_rerank_leg(
    library: Library,
) -> None:
    from models.rerank import MaxSimReranker

    retriever = library.reading(reranker=MaxSimReranker)
    library.catalog.create_collection("plain", rerank=False)
    library.add("a.txt", WARRANTY)
    library.add("a.txt", WARRANTY, "plain")
    with_tokens = (await retriever.search(Query("kettle warranty"))).hits[0]
    without = (await retriever.search(Query("kettle warranty", "plain"))).hits[0]
    assert set(with_tokens.scores) - set(without.scores) == {Leg.RERANK}


@pytest.mark.parametrize("query", ["产品保固期", "產品保固期", "cx-200", "ＣＸ－２００"])
async def test_words_are_found_in_either_form_and_kept_as_written(
    shelf: Library, query: str
) -> None:
    text = "產品ＣＸ－２００的保固期為二十四個月。"
    shelf.add("manual.txt", text)
    found = await shelf.retriever.search(Query(query, mode=SearchMode.WORDS))
    assert found.hits[0].chunk.text == text
    assert found.hits[0].scores[Leg.WORDS] > 0
