"""How a conversation begins, grows and is remembered; knows nothing of the page."""

from collections.abc import AsyncIterator
from dataclasses import replace

from app.client import ApiClient, Finished, Retrieved, Token
from app.problems import ApiProblem
from app.schemas import AskRequest, Turn
from ui.render import Exchange, conversation, welcome
from ui.samples import questions_for
from ui.words import Words

REMEMBERED = 10
"""Exchanges sent along as history."""

Conversation = tuple[Exchange, ...]


async def opening(client: ApiClient, collection: str, words: Words) -> str:
    """The conversation before its first question; says what can be asked of the samples."""
    try:
        documents = (await client.documents(collection)).documents
    except ApiProblem:
        # The tab of documents says what is wrong; the first question will say it here.
        return conversation((), welcome((), words.empty_text, words), words)
    names = [document.filename for document in documents if document.version is not None]
    waiting = not names and any(document.status == "processing" for document in documents)
    sentence = words.empty_text if names else words.empty_no_documents
    sentence = words.empty_waiting if waiting else sentence
    return conversation((), welcome(questions_for(names, words.language), sentence, words), words)


async def exchanged(
    client: ApiClient, question: str, so_far: Conversation, collection: str
) -> AsyncIterator[Exchange]:
    """The exchange as it grows; the last one is not `open`."""
    exchange = Exchange(question)
    yield exchange
    request = AskRequest(question=question, collection=collection, history=history(so_far))
    try:
        async for event in client.ask(request):
            match event:
                case Retrieved(hits=hits):
                    exchange = replace(exchange, found=len(hits))
                case Token(text=text):
                    exchange = replace(exchange, text=exchange.text + text)
                case Finished(answer=answer):
                    exchange = replace(exchange, answer=answer)
            yield exchange
    except ApiProblem as problem:
        yield replace(exchange, problem=problem)


def history(exchanges: Conversation) -> list[Turn]:
    """The last answered exchanges as turns; refused and broken ones say nothing to go on."""
    answered = [
        (one.question, one.answer.answer)
        for one in exchanges
        if one.answer is not None and not one.answer.refused
    ]
    turns: list[Turn] = []
    for question, answer in answered[-REMEMBERED:]:
        turns.append(Turn(role="user", content=question))
        turns.append(Turn(role="assistant", content=answer[:100_000]))
    return turns
