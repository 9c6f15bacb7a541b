"""`/v1` for writing: chat and completion, by a model or (`rag:COLLECTION`) from the documents."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from fastapi import APIRouter
from sse_starlette import EventSourceResponse, ServerSentEvent

from app.openai_errors import UnknownModel, openai_error
from app.openai_schemas import (
    ChatChoice,
    ChatMessageV1,
    ChatReply,
    ChatRequest,
    ChatTurn,
    CompletionChoice,
    CompletionReply,
    CompletionRequest,
)
from app.openai_text import Ended, Envelope, limited, usage_out
from app.present import answer_out
from app.served import RAG, GivenModels
from pipeline.answer import Answerer, Finished, Question
from pipeline.errors import InvalidInput, RagError
from pipeline.ports import Completer
from pipeline.types import Answer, Message

router = APIRouter(prefix="/v1", tags=["openai"])
_log = logging.getLogger("zhinao")
Pieces = AsyncGenerator[str | Ended, None]


@router.post("/chat/completions", response_model=ChatReply, response_model_exclude_none=True)
async def chat(request: ChatRequest, served: GivenModels) -> ChatReply | EventSourceResponse:
    """An answer to a conversation.

    With the model `rag:COLLECTION` it comes from that collection's documents: `citations` says
    what the markers in the text stand for. Such a stream begins when the answer is verified.
    System messages are for models alone.
    """
    _one(request.n)
    turns = [Message(_role(turn), _text(turn)) for turn in request.messages]
    envelope = Envelope(request.model, chat=True)
    if request.model.startswith(RAG):
        return await _from_documents(request, turns, envelope, served.answerer)
    model = served.the_chat(request.model)
    pieces = limited(
        model.stream(
            turns,
            max_tokens=request.most_tokens,
            temperature=request.heat,
            sampling=request.sampling,
        ),
        stops=request.stops,
        most_tokens=request.most_tokens,
        model=model,
        read="\n".join(turn.content for turn in turns),
    )
    if request.stream:
        return await _streaming(pieces, envelope, with_usage=request.with_usage)
    text, ended = await _whole(pieces)
    message = ChatMessageV1(content=text)
    return ChatReply(
        id=envelope.name,
        created=envelope.created,
        model=request.model,
        choices=[ChatChoice(message=message, finish_reason=ended.reason)],
        usage=usage_out(ended.usage),
    )


@router.post("/completions", response_model=CompletionReply)
async def complete(
    request: CompletionRequest, served: GivenModels
) -> CompletionReply | EventSourceResponse:
    """What follows a text, by a base model."""
    _one(request.n)
    prompts = [request.prompt] if isinstance(request.prompt, str) else request.prompt
    if len(prompts) != 1 or request.echo:
        raise InvalidInput("one prompt a request, without echo: send one request for each")
    model = served.the_chat(request.model)
    if not isinstance(model, Completer):
        raise InvalidInput(
            f"the model “{request.model}” holds conversations only: use /v1/chat/completions"
        )
    envelope = Envelope(request.model, chat=False)
    pieces = limited(
        model.complete(
            prompts[0],
            max_tokens=request.most_tokens,
            temperature=request.heat,
            sampling=request.sampling,
        ),
        stops=request.stops,
        most_tokens=request.most_tokens,
        model=model,
        read=prompts[0],
    )
    if request.stream:
        return await _streaming(pieces, envelope, with_usage=request.with_usage)
    text, ended = await _whole(pieces)
    return CompletionReply(
        id=envelope.name,
        created=envelope.created,
        model=request.model,
        choices=[CompletionChoice(text=text, finish_reason=ended.reason)],
        usage=usage_out(ended.usage),
    )


async def _from_documents(
    request: ChatRequest, turns: list[Message], envelope: Envelope, answerer: Answerer | None
) -> ChatReply | EventSourceResponse:
    collection = request.model.removeprefix(RAG)
    if answerer is None or not collection:
        raise UnknownModel(f"there is no model “{request.model}” here: see /v1/models")
    spoken = [turn for turn in turns if turn.role != "system"]
    if not spoken or spoken[-1].role != "user" or not spoken[-1].content.strip():
        raise InvalidInput("the last message must be the user's question, with some text")
    question = Question(spoken[-1].content, collection, tuple(spoken[:-1]))
    answer = await _answered(answerer, question)
    shown = answer_out(answer, {})
    more = {"citations": [c.model_dump() for c in shown.citations], "refused": answer.refused}
    if request.stream:
        events = [envelope.begin(), envelope.piece(answer.text), envelope.end("stop", **more)]
        if request.with_usage:
            events.append(envelope.usage(answer.usage))
        return EventSourceResponse(_all([event for event in events if event is not None]), sep="\n")
    return ChatReply(
        id=envelope.name,
        created=envelope.created,
        model=request.model,
        choices=[ChatChoice(message=ChatMessageV1(content=answer.text), finish_reason="stop")],
        usage=usage_out(answer.usage),
        citations=shown.citations,
        refused=answer.refused,
    )


async def _answered(answerer: Answerer, question: Question) -> Answer:
    """The verified answer: the tokens before it may have other markers and unsupported words."""
    answer: Answer | None = None
    async for event in answerer.stream(question):
        if isinstance(event, Finished):
            answer = event.answer
    assert answer is not None
    return answer


def _role(turn: ChatTurn) -> str:
    return "system" if turn.role == "developer" else turn.role


def _text(turn: ChatTurn) -> str:
    if turn.content is None or isinstance(turn.content, str):
        return turn.content or ""
    other = next((part.type for part in turn.content if part.type != "text"), None)
    if other is not None:
        raise InvalidInput(f"a message has a part of the type “{other}”: send text only")
    return "".join(part.text for part in turn.content)


def _one(n: int | None) -> None:
    if n not in (None, 1):
        raise InvalidInput("n must be 1: send the request again for another answer")


async def _whole(pieces: Pieces) -> tuple[str, Ended]:
    text, ended = "", None
    async for piece in pieces:
        if isinstance(piece, Ended):
            ended = piece
        else:
            text += piece
    assert ended is not None
    return text, ended


async def _streaming(
    pieces: Pieces, envelope: Envelope, *, with_usage: bool
) -> EventSourceResponse:
    """What is wrong before the first piece is an HTTP error, not an event."""
    first = await anext(pieces)
    return EventSourceResponse(_events(first, pieces, envelope, with_usage=with_usage), sep="\n")


async def _events(
    first: str | Ended, pieces: Pieces, envelope: Envelope, *, with_usage: bool
) -> AsyncIterator[ServerSentEvent]:
    if (begin := envelope.begin()) is not None:
        yield _event(begin)
    piece: str | Ended | None = first
    try:
        while piece is not None:
            if isinstance(piece, Ended):
                yield _event(envelope.end(piece.reason))
                if with_usage:
                    yield _event(envelope.usage(piece.usage))
            else:
                yield _event(envelope.piece(piece))
            piece = await anext(pieces, None)
    except RagError as error:
        yield _event(openai_error(error)[1])
    except Exception:  # noqa: BLE001  (the stream's entry point: the status line has gone out)
        _log.exception("unexpected error in a stream under /v1")
        yield _event(openai_error(RagError("the server made a mistake: the log says more"))[1])
    finally:
        await pieces.aclose()
    yield ServerSentEvent("[DONE]")


async def _all(events: list[dict[str, Any]]) -> AsyncIterator[ServerSentEvent]:
    for event in events:
        yield _event(event)
    yield ServerSentEvent("[DONE]")


def _event(data: dict[str, Any]) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, ensure_ascii=False))
