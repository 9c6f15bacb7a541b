"""The API as the interface sees it: one typed method a call, one exception for all that goes wrong."""

import asyncio
import json
import mimetypes
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from pydantic import BaseModel, ValidationError

from app.connection import ANSWER_TIMEOUT, parse, segment
from app.job_calls import JobCalls
from app.problems import ApiProblem, from_problem, from_response
from app.schemas import (
    AskRequest,
    AskResponse,
    CollectionOut,
    CollectionRequest,
    CollectionsResponse,
    DeleteReceipt,
    DocumentOut,
    DocumentsResponse,
    HitOut,
    Problem,
    QuestionsRequest,
    QuestionsResponse,
    ReadyOut,
    SearchRequest,
    SearchResponse,
    UploadResponse,
)
from app.sse import server_sent_events


@dataclass(frozen=True, slots=True)
class Retrieved:
    """The passages that an answer will be made from."""

    hits: tuple[HitOut, ...]


@dataclass(frozen=True, slots=True)
class Token:
    """A provisional piece of an answer."""

    text: str


@dataclass(frozen=True, slots=True)
class Finished:
    """The verified answer; it replaces everything that was streamed before."""

    answer: AskResponse


Event = Retrieved | Token | Finished


class _RetrievedData(BaseModel):
    hits: list[HitOut]


class _TokenData(BaseModel):
    text: str


class ApiClient(JobCalls):
    """Every method calls the API once and raises `ApiProblem` and nothing else."""

    async def search(self, request: SearchRequest) -> SearchResponse:
        """`POST /search`."""
        body = request.model_dump(mode="json", exclude_none=True)
        return await self._call(SearchResponse, self._request("POST", "/search", json=body))

    async def ask(self, request: AskRequest) -> AsyncIterator[Event]:
        """`POST /ask` as a stream: `Retrieved`, `Token`s, then exactly one `Finished`.

        An `error` event is raised as `ApiProblem`, and so is a stream that ends before `Finished`.
        """
        body = request.model_copy(update={"stream": True}).model_dump(
            mode="json", exclude_none=True
        )
        headers = {"Accept": "text/event-stream"}
        asked = self._request("POST", "/ask", json=body, headers=headers, timeout=ANSWER_TIMEOUT)
        async with self._sent(asked) as response:
            async for name, data in server_sent_events(response.aiter_bytes()):
                match name:
                    case "retrieved":
                        yield Retrieved(tuple(parse(_RetrievedData, data).hits))
                    case "token":
                        yield Token(parse(_TokenData, data).text)
                    case "finished":
                        yield Finished(parse(AskResponse, data))
                        return
                    case "error":
                        raise from_problem(parse(Problem, data))
                    case _:
                        continue
        raise ApiProblem("Broken off", "The answer broke off before its end. Ask again.", None)

    async def chat(
        self, model: str, messages: Sequence[Mapping[str, str]]
    ) -> AsyncGenerator[dict[str, Any], None]:
        """`POST /v1/chat/completions` as a stream of its events; an error event is raised."""
        body = {"model": model, "messages": messages, "stream": True}
        asked = self._request("POST", "/v1/chat/completions", json=body, timeout=ANSWER_TIMEOUT)
        async with self._sent(asked) as response:
            async for _, data in server_sent_events(response.aiter_bytes()):
                if data == "[DONE]":
                    return
                if "error" in (event := json.loads(data)):
                    raise ApiProblem("Stopped", event["error"]["message"], None)
                yield event
        raise ApiProblem("Broken off", "The answer broke off before its end. Ask again.", None)

    async def upload(
        self, files: Sequence[tuple[str, Path]], collection: str, *, bulk: bool = False
    ) -> UploadResponse:
        """`POST /documents` with (name, path) pairs; the reply has one row a file, in this order.

        `bulk` files let others go first.
        A 422 that has such rows too (no file was taken) is a reply like any other.
        """
        async with AsyncExitStack() as stack:
            parts = []
            for name, path in files:
                try:
                    # Opened in a thread; httpx reads it piece by piece.
                    file = stack.enter_context(await asyncio.to_thread(path.open, "rb"))
                except OSError as error:
                    raise ApiProblem(
                        "File lost", f"“{name}” could not be read here. Upload it again.", None
                    ) from error
                kind = mimetypes.guess_type(name)[0] or "application/octet-stream"
                parts.append(("files", (name, file, kind)))
            data = {"collection": collection, "bulk": str(bulk).lower()}
            request = self._request("POST", "/documents", files=parts, data=data)
            return await self._uploaded(request)

    async def upload_url(self, url: str, collection: str) -> UploadResponse:
        """`POST /documents` with a URL, which the server fetches; a 422 with a row is a reply like any other."""
        return await self._uploaded(
            self._request("POST", "/documents", json={"url": url, "collection": collection})
        )

    async def _uploaded(self, request: httpx.Request) -> UploadResponse:
        async with self._sent(request, frozenset({422})) as response:
            body = await response.aread()
        try:
            return UploadResponse.model_validate_json(body)
        except ValidationError as error:
            raise from_response(response, body) from error

    async def document(self, document_id: str) -> DocumentOut:
        """`GET /documents/{id}`."""
        path = f"/documents/{segment(document_id)}"
        return await self._call(DocumentOut, self._request("GET", path))

    async def documents(
        self, collection: str, *, q: str = "", limit: int = 200, cursor: str | None = None
    ) -> DocumentsResponse:
        """`GET /documents`: one page, whose names contain `q`."""
        params = {"collection": collection, "limit": str(limit)}
        params |= {"q": q} if q else {}
        params |= {"cursor": cursor} if cursor else {}
        return await self._call(
            DocumentsResponse, self._request("GET", "/documents", params=params)
        )

    async def delete_document(self, document_id: str) -> DeleteReceipt:
        """`DELETE /documents/{id}`."""
        return await self._call(
            DeleteReceipt, self._request("DELETE", f"/documents/{segment(document_id)}")
        )

    async def text(self, document_id: str, version: int | None = None) -> str:
        """`GET /documents/{id}/text`: the stored text, whose code points citations count."""
        params = {} if version is None else {"version": str(version)}
        path = f"/documents/{segment(document_id)}/text"
        async with self._sent(self._request("GET", path, params=params)) as response:
            body = await response.aread()
        return body.decode("utf-8", errors="replace")

    async def table(self, document_id: str, number: int, version: int, highlight: str) -> str:
        """`GET /documents/{id}/tables/{n}`: the table as HTML, escaped by the API, with a passage's cells marked."""
        params = {"version": str(version), "highlight": highlight}
        path = f"/documents/{segment(document_id)}/tables/{number}"
        async with self._sent(self._request("GET", path, params=params)) as response:
            body = await response.aread()
        return body.decode("utf-8", errors="replace")

    @asynccontextmanager
    async def content(self, document_id: str, version: str) -> AsyncIterator[httpx.Response]:
        """`GET /documents/{id}/content`: the original file as sent, not yet read; "" is the newest version."""
        params = {"version": version} if version else {}
        path = f"/documents/{segment(document_id)}/content"
        request = self._request("GET", path, params=params, headers={"Accept-Encoding": "identity"})
        async with self._sent(request) as response:
            yield response

    @asynccontextmanager
    async def picture(
        self, document_id: str, number: int, version: str, highlight: str
    ) -> AsyncIterator[httpx.Response]:
        """`GET /documents/{id}/pages/{n}`: the page as PNG, not yet read; "" leaves a parameter out."""
        given = {"version": version, "highlight": highlight}
        params = {key: value for key, value in given.items() if value}
        path = f"/documents/{segment(document_id)}/pages/{number}"
        async with self._sent(self._request("GET", path, params=params)) as response:
            yield response

    async def collections(self) -> list[CollectionOut]:
        """`GET /collections`, every page of it."""
        found: list[CollectionOut] = []
        cursor: str | None = None
        while True:
            params = {"limit": "500"} | ({"cursor": cursor} if cursor else {})
            page = await self._call(
                CollectionsResponse, self._request("GET", "/collections", params=params)
            )
            found += page.collections
            if page.next_cursor is None or page.next_cursor == cursor:
                return found
            cursor = page.next_cursor

    async def create_collection(self, name: str) -> CollectionOut:
        """`POST /collections`."""
        try:
            body = CollectionRequest(name=name).model_dump(mode="json")
        except ValidationError as error:
            raise ApiProblem(
                "Unusable name", "A collection's name has 1 to 100 characters.", 422
            ) from error
        return await self._call(CollectionOut, self._request("POST", "/collections", json=body))

    async def questions(self, name: str) -> QuestionsResponse:
        """`GET /collections/{name}/questions`."""
        path = f"/collections/{segment(name)}/questions"
        return await self._call(QuestionsResponse, self._request("GET", path))

    async def put_questions(self, name: str, request: QuestionsRequest) -> QuestionsResponse:
        """`PUT /collections/{name}/questions`."""
        path, body = f"/collections/{segment(name)}/questions", request.model_dump(mode="json")
        return await self._call(QuestionsResponse, self._request("PUT", path, json=body))

    async def delete_collection(self, name: str) -> None:
        """`DELETE /collections/{name}`."""
        async with self._sent(self._request("DELETE", f"/collections/{segment(name)}")) as response:
            await response.aread()

    async def ready(self) -> ReadyOut:
        """`GET /health/ready`; a service that is not ready yet answers with 503 and the same body."""
        async with self._sent(self._request("GET", "/health/ready"), frozenset({503})) as response:
            return parse(ReadyOut, await response.aread())
