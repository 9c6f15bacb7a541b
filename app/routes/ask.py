"""`POST /ask`: an answer as JSON, or as a stream of events that ends with the same object."""

import json
import logging
from collections.abc import AsyncGenerator, AsyncIterator
from time import perf_counter

from fastapi import APIRouter
from sse_starlette import EventSourceResponse, ServerSentEvent

from app.errors import make_problem, problem
from app.present import answer_out, hit_out
from app.schemas import AskRequest, AskResponse
from app.state import Given
from pipeline.answer import Event, Finished, Found, Question, Token
from pipeline.errors import InvalidInput, RagError
from pipeline.types import AnswerMode, DocumentId, Message

router = APIRouter(tags=["ask"])
_log = logging.getLogger("zhinao")


@router.post("/ask", response_model=AskResponse)
async def ask(request: AskRequest, state: Given) -> AskResponse | EventSourceResponse:
    """A cited answer; with `stream` the events retrieved, token, finished or error."""
    if not request.question.strip():
        raise InvalidInput("the question is empty: type a question")
    started = perf_counter()
    events = state.services.answerer.stream(_question(request))
    first = await anext(events)  # what is wrong with the request is an HTTP error, not an event
    if request.stream:
        return EventSourceResponse(_stream(first, events, started))
    timings: dict[str, float] = {}
    event = first
    while not isinstance(event, Finished):
        if isinstance(event, Found):
            timings.update(event.timings_ms)
        event = await anext(events)
    return answer_out(event.answer, {**timings, "total": _since(started)})


def _question(request: AskRequest) -> Question:
    documents = request.document_ids
    return Question(
        request.question,
        request.collection,
        tuple(Message(turn.role, turn.content) for turn in request.history),
        AnswerMode(request.mode),
        None if documents is None else tuple(map(DocumentId, documents)),
        request.top_k,
    )


async def _stream(
    first: Event, events: AsyncGenerator[Event, None], started: float
) -> AsyncIterator[ServerSentEvent]:
    timings: dict[str, float] = {}
    event: Event | None = first
    try:
        while event is not None:
            match event:
                case Found(hits, laps):
                    timings.update(laps)
                    rows = [hit_out(rank, hit).model_dump() for rank, hit in enumerate(hits, 1)]
                    yield _event("retrieved", {"hits": rows})
                case Token(text):
                    yield _event("token", {"text": text})
                case Finished(answer):
                    body = answer_out(answer, {**timings, "total": _since(started)})
                    yield _event("finished", body.model_dump())
            event = await anext(events, None)
    except RagError as error:
        yield _event("error", problem(error))
    except Exception:  # noqa: BLE001  (the stream's entry point: the status line has gone out)
        _log.exception("unexpected error in the stream of an answer")
        detail = "the server made a mistake: the log says more; trying again may help"
        yield _event("error", make_problem("InternalError", 500, detail))
    finally:
        await events.aclose()


def _event(name: str, data: object) -> ServerSentEvent:
    return ServerSentEvent(json.dumps(data, ensure_ascii=False), event=name)


def _since(started: float) -> float:
    return round((perf_counter() - started) * 1000, 3)
