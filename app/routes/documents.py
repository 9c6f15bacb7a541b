"""`/documents`."""

import asyncio
from typing import Annotated, Literal
from urllib.parse import quote

from fastapi import APIRouter, File, Form, Query, UploadFile
from fastapi.responses import FileResponse, HTMLResponse, JSONResponse, PlainTextResponse, Response
from fastapi.routing import APIRoute
from starlette.routing import Match
from starlette.types import Scope

from app.cursor import decode, encode
from app.errors import make_problem, respond
from app.fetching import take_url
from app.present import document_out
from app.schemas import (
    DeleteReceipt,
    DocumentOut,
    DocumentsResponse,
    UploadedOut,
    UploadResponse,
    UrlRequest,
)
from app.state import Given
from app.uploads import take
from indexer.catalog.precedence import MANY
from indexer.catalog.removal import WITH_COMPACTION
from indexer.pictures import parse_span
from indexer.text.table_html import table_html
from pipeline.errors import NotFound
from pipeline.types import Span

router = APIRouter(prefix="/documents", tags=["documents"])

Limit = Annotated[int, Query(ge=1, le=500)]
Version = Annotated[int | None, Query(ge=1, le=2**31 - 1)]
_INLINE = ("application/pdf", "text/plain", "text/csv", "text/markdown")


class _Json(APIRoute):
    """A route for bodies of JSON alone: the same path takes files as a form."""

    def matches(self, scope: Scope) -> tuple[Match, Scope]:
        kind = dict(scope.get("headers", ())).get(b"content-type", b"").split(b";")[0].strip()
        match, child = super().matches(scope)
        unfit = match is Match.FULL and kind.lower() != b"application/json"
        return (Match.NONE, {}) if unfit else (match, child)


async def upload_url(state: Given, request: UrlRequest) -> UploadResponse | JSONResponse:
    """Fetch what is behind a URL, in this request, and take it as an upload."""
    await asyncio.to_thread(state.services.core.catalog.collection_id, request.collection)
    return _answer([await take_url(state, request.collection, request.url)])


router.add_api_route(
    "",
    upload_url,
    methods=["POST"],
    status_code=202,
    response_model=UploadResponse,
    route_class_override=_Json,
    include_in_schema=False,  # described with the form below: a path has one description a method
)


@router.post(
    "",
    status_code=202,
    response_model=UploadResponse,
    openapi_extra={
        "requestBody": {"content": {"application/json": {"schema": UrlRequest.model_json_schema()}}}
    },
)
async def upload(
    state: Given,
    files: Annotated[list[UploadFile], File()],
    collection: Annotated[str, Form(min_length=1, max_length=100)] = "default",
    bulk: Annotated[bool, Form()] = False,
) -> UploadResponse | JSONResponse:
    """Take files, as a form, or what is behind a URL, as JSON; each row says what became of its file.

    The files of an archive (ZIP, TAR, ...) and the attachments of a mail become documents of their own. A URL is
    fetched in the request. When none was taken, the answer is a 422 problem. Files that are sent as `bulk`, and more
    than 20 in a request, wait until no other file is waiting.
    """
    await asyncio.to_thread(state.services.core.catalog.collection_id, collection)
    many = bulk or len(files) > MANY
    return _answer([await take(state, collection, file, bulk=many) for file in files])


def _answer(rows: list[UploadedOut]) -> UploadResponse | JSONResponse:
    response = UploadResponse(documents=rows)
    if all(row.error for row in rows):
        detail = "; ".join(f"{row.filename}: {row.error}" for row in rows[:5])
        return respond(make_problem("InvalidInput", 422, detail), **response.model_dump())
    return response


@router.get("")
async def documents(
    state: Given,
    collection: Annotated[str | None, Query(max_length=100)] = None,
    status: Literal["processing", "ready", "failed"] | None = None,
    q: Annotated[str | None, Query(max_length=500)] = None,
    limit: Limit = 100,
    cursor: Annotated[str | None, Query(max_length=1000)] = None,
) -> DocumentsResponse:
    """A page of documents, newest first; `q` looks in the names."""
    views, following = await asyncio.to_thread(
        state.services.core.catalog.documents,
        collection=collection,
        status=status,
        name_contains=q,
        limit=limit,
        cursor=decode(cursor),
    )
    return DocumentsResponse(
        documents=[document_out(v) for v in views], next_cursor=encode(following)
    )


@router.get("/{document_id}")
async def document(document_id: str, state: Given) -> DocumentOut:
    """One document."""
    return document_out(await asyncio.to_thread(state.services.core.catalog.document, document_id))


@router.get("/{document_id}/content", response_class=FileResponse)
async def content(document_id: str, state: Given, version: Version = None) -> FileResponse:
    """The original bytes, as they were uploaded."""
    core = state.services.core
    found = await asyncio.to_thread(core.catalog.version, document_id, version)
    path = core.folders.original(found.collection_id, found.sha256)
    if not path.exists():
        raise NotFound("the original of this version is gone: upload the file again")
    kind = "inline" if found.media_type in _INLINE else "attachment"
    name = quote(found.name.rsplit("/", 1)[-1])
    return FileResponse(
        path,
        media_type=found.media_type,
        headers={
            "Content-Disposition": f"{kind}; filename*=UTF-8''{name}",
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'; style-src 'unsafe-inline'",
        },
    )


@router.get("/{document_id}/text", response_class=PlainTextResponse)
async def text(document_id: str, state: Given, version: Version = None) -> PlainTextResponse:
    """The stored text that every citation's `start` and `end` count in."""
    stored = await asyncio.to_thread(state.services.core.catalog.text, document_id, version)
    return PlainTextResponse(stored, headers={"X-Content-Type-Options": "nosniff"})


@router.get("/{document_id}/tables/{number}", response_class=HTMLResponse)
async def table(
    document_id: str,
    number: int,
    state: Given,
    version: Version = None,
    highlight: Annotated[str | None, Query(max_length=100)] = None,
) -> HTMLResponse:
    """A table of a version as HTML, every word escaped: its header and at most 200 rows.

    `highlight=start-end`, code points of the version's stored text, marks the cells of that passage and keeps to the
    rows around it. The number is `table` of a hit or citation.
    """
    span = None if highlight is None else Span(*parse_span(highlight))
    stored = await asyncio.to_thread(state.services.core.catalog.stored, document_id, version)
    made = await asyncio.to_thread(table_html, stored, number, span)
    return HTMLResponse(
        made,
        headers={
            "X-Content-Type-Options": "nosniff",
            "Content-Security-Policy": "sandbox; default-src 'none'",
        },
    )


@router.get(
    "/{document_id}/pages/{number}",
    response_class=Response,
    responses={200: {"content": {"image/png": {}}, "description": "The page as PNG"}},
)
async def page(
    document_id: str,
    number: int,
    state: Given,
    version: Version = None,
    highlight: Annotated[str | None, Query(max_length=100)] = None,
) -> Response:
    """A page of a PDF or of an uploaded picture as PNG, at most 2000 pixels long.

    `highlight=start-end`, code points of the version's stored text, marks the lines of that passage.
    """
    core = state.services.core
    span = None if highlight is None else parse_span(highlight)
    found = await asyncio.to_thread(core.catalog.version, document_id, version)
    png = await state.pictures.draw(core.database, core.folders, found, number, span)
    return Response(
        png,
        media_type="image/png",
        headers={"X-Content-Type-Options": "nosniff", "Cache-Control": "private, no-cache"},
    )


@router.delete("/{document_id}")
async def delete(document_id: str, state: Given) -> DeleteReceipt:
    """Take a document out of every answer at once; the receipt counts what each store lost."""
    deleted = await asyncio.to_thread(state.services.core.catalog.delete_document, document_id)
    later = [store for store in deleted if store in WITH_COMPACTION]
    at_once = [store for store in deleted if store not in WITH_COMPACTION]
    return DeleteReceipt(id=document_id, deleted=deleted, at_once=at_once, with_compaction=later)
