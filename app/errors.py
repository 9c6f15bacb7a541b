"""Errors to RFC 9457 problem+json: a stable type, and a sentence that says what to do."""

import logging
import re
from collections.abc import Sequence
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from pipeline.errors import (
    Conflict,
    InvalidInput,
    NotFound,
    RagError,
    Unavailable,
    disk_refused,
)

_STATUS: tuple[tuple[type[RagError], int], ...] = (
    (InvalidInput, 422),
    (NotFound, 404),
    (Conflict, 409),
    (Unavailable, 503),
)
_log = logging.getLogger("zhinao")


def status_of(error: RagError) -> int:
    """The HTTP status of an error's class; 500 for a class without one."""
    return next((status for kind, status in _STATUS if isinstance(error, kind)), 500)


def problem(error: RagError) -> dict[str, Any]:
    """The problem of an error: its class names the type."""
    return make_problem(type(error).__name__, status_of(error), str(error))


def make_problem(name: str, status: int, detail: str) -> dict[str, Any]:
    """A problem object. `InvalidInput` becomes the type "urn:zhinao:invalid-input"."""
    words = re.sub(r"(?<!^)(?=[A-Z])", " ", name).lower()
    return {
        "type": f"urn:zhinao:{words.replace(' ', '-')}",
        "title": words.capitalize(),
        "status": status,
        "detail": detail,
    }


def respond(body: dict[str, Any], **more: object) -> JSONResponse:
    """A problem as a response."""
    headers = {"Retry-After": "2"} if body["status"] == 503 else None
    return JSONResponse(
        {**body, **more}, body["status"], headers, media_type="application/problem+json"
    )


def unknown(method: str, path: str, *, known: bool) -> JSONResponse:
    """A 404, or a 405 where the path is `known` and only the method is not."""
    if known:
        detail = f"{method} is not allowed at {path}: see /docs for the API's calls"
        return respond(make_problem("MethodNotAllowed", 405, detail))
    detail = f"there is nothing at {path}: see /docs for the API's calls"
    return respond(make_problem("NotFound", 404, detail))


def install(app: FastAPI) -> None:
    """Every error of the API leaves as a problem."""

    @app.exception_handler(RagError)
    async def _rag_error(_request: Request, error: RagError) -> JSONResponse:
        return respond(problem(error))

    @app.exception_handler(RequestValidationError)
    async def _invalid(_request: Request, error: RequestValidationError) -> JSONResponse:
        errors = error.errors()
        if any(e["type"] == "json_invalid" for e in errors):
            detail = "the body is not valid JSON: check commas, quotes and brackets"
            return respond(make_problem("InvalidInput", 400, detail))
        return respond(make_problem("InvalidInput", 422, _sentence(errors)))

    @app.exception_handler(HTTPException)
    async def _http(request: Request, error: HTTPException) -> JSONResponse:
        if error.status_code in (404, 405):
            known = error.status_code == 405
            return unknown(request.method, request.url.path, known=known)
        if isinstance(error.__cause__, OSError):  # an upload that is spooled while it arrives
            detail = f"the upload cannot be stored ({error.__cause__.strerror}): free some disk space, then try again"
            return respond(make_problem("Unavailable", 503, detail))
        return respond(make_problem("HttpError", error.status_code, str(error.detail)))

    @app.exception_handler(MemoryError)
    async def _full(request: Request, error: MemoryError) -> JSONResponse:
        _log.error("no memory at %s %s", request.method, request.url.path, exc_info=error)
        detail = "the server has not enough memory for this: free some, or try again when it is less busy"
        return respond(make_problem("Unavailable", 503, detail))

    @app.exception_handler(OSError)
    async def _disk(request: Request, error: OSError) -> JSONResponse:
        if (says := disk_refused(error)) is None:
            raise error
        _log.error("%s %s: %s", request.method, request.url.path, error)
        return respond(make_problem("Unavailable", 503, says))

    @app.exception_handler(Exception)
    async def _bug(request: Request, error: Exception) -> JSONResponse:
        _log.error("unexpected error at %s %s", request.method, request.url.path, exc_info=error)
        detail = "the server made a mistake: the log says more; trying again may help"
        return respond(make_problem("InternalError", 500, detail))


def _sentence(errors: Sequence[Any]) -> str:
    parts = []
    for error in errors[:5]:
        where = ".".join(
            str(part) for part in error["loc"] if part not in ("body", "query", "path")
        )
        message = error["msg"][0].lower() + error["msg"][1:]
        parts.append(f"{where}: {message}" if where else message)
    return "; ".join(parts)
