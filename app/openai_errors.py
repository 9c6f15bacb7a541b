"""Errors under `/v1` in OpenAI's shape, so that its clients raise the right class."""

import json
from collections.abc import Awaitable, Callable
from typing import Any, cast

from fastapi import FastAPI, Request, Response
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from app.openai_schemas import ErrorReply, ErrorV1
from pipeline.errors import InvalidInput, NotFound, Overloaded, RagError, TooLarge, Unavailable

PREFIX = "/v1/"
_RETRY_S = "2"
_Handler = Callable[[Request, Any], Awaitable[Response]]


class UnknownModel(NotFound):
    """No model has this name."""


def openai_error(error: RagError) -> tuple[int, dict[str, Any]]:
    """Status and body of an error."""
    match error:
        case UnknownModel():
            return 404, _body(error, "invalid_request_error", "model_not_found", "model")
        case NotFound():
            return 404, _body(error, "invalid_request_error", "not_found")
        case TooLarge():
            return 400, _body(error, "invalid_request_error", "context_length_exceeded")
        case InvalidInput():
            return 400, _body(error, "invalid_request_error", "invalid_value")
        case Overloaded():
            return 429, _body(error, "rate_limit_error", "overloaded")
        case Unavailable():
            return 503, _body(error, "server_error", "unavailable")
        case _:
            return 500, _body(error, "server_error", "internal_error")


def respond(error: RagError) -> JSONResponse:
    """An error as a response, with Retry-After where the same request may work later."""
    status, body = openai_error(error)
    return JSONResponse(body, status, {"Retry-After": _RETRY_S} if error.retryable else None)


def respond_problem(status: int, detail: str, *, param: str | None = None) -> JSONResponse:
    """A problem that is no RagError, such as an unknown path or a body of the wrong form."""
    kind = "server_error" if status >= 500 else "invalid_request_error"
    return JSONResponse(_body(detail, kind, None, param), status)


def shaped(path: str, problem: Response) -> Response:
    """A problem under `/v1` in OpenAI's shape; 422 is 400 there. Others stay as they are."""
    if not path.startswith(PREFIX):
        return problem
    status = 400 if problem.status_code == 422 else problem.status_code
    return respond_problem(status, json.loads(bytes(problem.body))["detail"])


def install(app: FastAPI) -> None:
    """Errors under `/v1` leave in OpenAI's shape; all others as the handlers there say."""
    for kind in (RagError, RequestValidationError, HTTPException, Exception):
        app.add_exception_handler(kind, _shaping(cast("_Handler", app.exception_handlers[kind])))


def _shaping(handler: _Handler) -> _Handler:
    async def shape(request: Request, error: Exception) -> Response:
        if request.url.path.startswith(PREFIX) and isinstance(error, RagError):
            return respond(error)
        return shaped(request.url.path, await handler(request, error))

    return shape


def _body(message: object, kind: str, code: str | None, param: str | None = None) -> dict[str, Any]:
    error = ErrorV1(message=str(message), type=kind, code=code, param=param)
    return ErrorReply(error=error).model_dump()
