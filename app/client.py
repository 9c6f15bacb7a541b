"""The API as the interface sees it: one typed method a call, one exception for all that goes wrong."""

import asyncio
import json
import mimetypes
from collections.abc import AsyncGenerator, AsyncIterator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar
from urllib.parse import quote

import httpx
from pydantic import BaseModel, ValidationError

from app.problems import ApiProblem, from_problem, from_response
from app.schemas import (
    AskRequest,
    AskResponse,
    CancelledOut,
    CollectionOut,
    CollectionRequest,
    CollectionsResponse,
    DeleteReceipt,
    DeleteRequest,
    DocumentOut,
    DocumentsResponse,
    EvaluateRequest,
    HitOut,
    JobEvent,
    JobOut,
    JobsResponse,
    Problem,
    QuestionsRequest,
    QuestionsResponse,
    ReadyOut,
    ReindexRequest,
    RemovedOut,
    RetriedOut,
    ScheduleOut,
    ScheduleRequest,
    SchedulesResponse,
    SearchRequest,
    SearchResponse,
    UploadResponse,
)
from app.sse import server_sent_events

Model = TypeVar("Model", bound=BaseModel)

TIMEOUT = httpx.Timeout(connect=5, read=120, write=120, pool=30)
ANSWER_TIMEOUT = httpx.Timeout(connect=5, read=300, write=30, pool=30)


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


class ApiClient:
    """Calls the API at `base_url`. Every method raises `ApiProblem` and nothing else.

    Proxies named in the environment are not used: the API is on this machine or beside it.
    """

    def __init__(self, base_url: str, transport: httpx.AsyncBaseTransport | None = None) -> None:
        self.base_url = base_url.rstrip("/")
        self._http = httpx.AsyncClient(
            base_url=self.base_url,
            transport=transport,
            timeout=TIMEOUT,
            trust_env=False,
            headers={"Accept": "application/json"},
        )
        self._request = self._http.build_request

    async def aclose(self) -> None:
        """Closes the connections."""
        await self._http.aclose()

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
                        yield Retrieved(tuple(_parse(_RetrievedData, data).hits))
                    case "token":
                        yield Token(_parse(_TokenData, data).text)
                    case "finished":
                        yield Finished(_parse(AskResponse, data))
                        return
                    case "error":
                        raise from_problem(_parse(Problem, data))
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
        path = f"/documents/{_segment(document_id)}"
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
            DeleteReceipt, self._request("DELETE", f"/documents/{_segment(document_id)}")
        )

    async def text(self, document_id: str, version: int | None = None) -> str:
        """`GET /documents/{id}/text`: the stored text, whose code points citations count."""
        params = {} if version is None else {"version": str(version)}
        path = f"/documents/{_segment(document_id)}/text"
        async with self._sent(self._request("GET", path, params=params)) as response:
            body = await response.aread()
        return body.decode("utf-8", errors="replace")

    async def table(self, document_id: str, number: int, version: int, highlight: str) -> str:
        """`GET /documents/{id}/tables/{n}`: the table as HTML, escaped by the API, with a passage's cells marked."""
        params = {"version": str(version), "highlight": highlight}
        path = f"/documents/{_segment(document_id)}/tables/{number}"
        async with self._sent(self._request("GET", path, params=params)) as response:
            body = await response.aread()
        return body.decode("utf-8", errors="replace")

    @asynccontextmanager
    async def content(self, document_id: str, version: str) -> AsyncIterator[httpx.Response]:
        """`GET /documents/{id}/content`: the original file as sent, not yet read; "" is the newest version."""
        params = {"version": version} if version else {}
        path = f"/documents/{_segment(document_id)}/content"
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
        path = f"/documents/{_segment(document_id)}/pages/{number}"
        async with self._sent(self._request("GET", path, params=params)) as response:
            yield response

    async def jobs(
        self, collection: str | None = None, *, kinds: Sequence[str] = (), limit: int = 200
    ) -> JobsResponse:
        """`GET /jobs`, newest first; of all kinds where none is named."""
        params: dict[str, str | Sequence[str]] = {"limit": str(limit), "kind": kinds}
        if collection:
            params["collection"] = collection
        return await self._call(JobsResponse, self._request("GET", "/jobs", params=params))

    async def job(self, job_id: str) -> JobOut:
        """`GET /jobs/{id}`."""
        return await self._call(JobOut, self._request("GET", f"/jobs/{_segment(job_id)}"))

    async def cancel(self, job_id: str) -> CancelledOut:
        """`POST /jobs/{id}/cancel`."""
        path = f"/jobs/{_segment(job_id)}/cancel"
        return await self._call(CancelledOut, self._request("POST", path))

    async def retry(self, job_id: str) -> JobOut:
        """`POST /jobs/{id}/retry`."""
        path = f"/jobs/{_segment(job_id)}/retry"
        return await self._call(JobOut, self._request("POST", path))

    async def retry_all(self, collection: str | None = None) -> RetriedOut:
        """`POST /jobs/retry`."""
        params = {"collection": collection} if collection else {}
        return await self._call(RetriedOut, self._request("POST", "/jobs/retry", params=params))

    async def delete_many(self, request: DeleteRequest) -> JobOut:
        """`POST /jobs/delete`."""
        body = request.model_dump()
        return await self._call(JobOut, self._request("POST", "/jobs/delete", json=body))

    async def reindex(self, request: ReindexRequest) -> JobOut:
        """`POST /jobs/reindex`."""
        body = request.model_dump()
        return await self._call(JobOut, self._request("POST", "/jobs/reindex", json=body))

    async def evaluate(self, request: EvaluateRequest) -> JobOut:
        """`POST /jobs/evaluate`."""
        body = request.model_dump()
        return await self._call(JobOut, self._request("POST", "/jobs/evaluate", json=body))

    async def job_events(self, job_id: str) -> AsyncIterator[JobEvent]:
        """`GET /jobs/{id}/events`: an event a change, until the job ends."""
        path = f"/jobs/{_segment(job_id)}/events"
        headers = {"Accept": "text/event-stream"}
        asked = self._request("GET", path, headers=headers, timeout=ANSWER_TIMEOUT)
        async with self._sent(asked) as response:
            async for name, data in server_sent_events(response.aiter_bytes()):
                if name == "job":
                    yield _parse(JobEvent, data)

    async def schedules(self) -> SchedulesResponse:
        """`GET /schedules`."""
        return await self._call(SchedulesResponse, self._request("GET", "/schedules"))

    async def add_schedule(self, request: ScheduleRequest) -> ScheduleOut:
        """`POST /schedules`."""
        body = request.model_dump()
        return await self._call(ScheduleOut, self._request("POST", "/schedules", json=body))

    async def remove_schedule(self, schedule_id: str) -> RemovedOut:
        """`DELETE /schedules/{id}`."""
        path = f"/schedules/{_segment(schedule_id)}"
        return await self._call(RemovedOut, self._request("DELETE", path))

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
        path = f"/collections/{_segment(name)}/questions"
        return await self._call(QuestionsResponse, self._request("GET", path))

    async def put_questions(self, name: str, request: QuestionsRequest) -> QuestionsResponse:
        """`PUT /collections/{name}/questions`."""
        path, body = f"/collections/{_segment(name)}/questions", request.model_dump(mode="json")
        return await self._call(QuestionsResponse, self._request("PUT", path, json=body))

    async def delete_collection(self, name: str) -> None:
        """`DELETE /collections/{name}`."""
        async with self._sent(
            self._request("DELETE", f"/collections/{_segment(name)}")
        ) as response:
            await response.aread()

    async def ready(self) -> ReadyOut:
        """`GET /health/ready`; a service that is not ready yet answers with 503 and the same body."""
        async with self._sent(self._request("GET", "/health/ready"), frozenset({503})) as response:
            return _parse(ReadyOut, await response.aread())

    async def _call(self, model: type[Model], request: httpx.Request) -> Model:
        async with self._sent(request) as response:
            body = await response.aread()
        return _parse(model, body)

    @asynccontextmanager
    async def _sent(
        self, request: httpx.Request, accept: frozenset[int] = frozenset()
    ) -> AsyncIterator[httpx.Response]:
        try:
            response = await self._http.send(request, stream=True)
            try:
                if not response.is_success and response.status_code not in accept:
                    raise from_response(response, await response.aread())
                yield response
            finally:
                await response.aclose()
        except httpx.TimeoutException as error:
            raise ApiProblem(
                "No answer in time", "The service did not answer in time. Try again.", None
            ) from error
        except httpx.HTTPError as error:
            raise ApiProblem(
                "Unreachable",
                f"The service at {self.base_url} cannot be reached. Check that it is running.",
                None,
            ) from error


def _parse(model: type[Model], body: str | bytes) -> Model:
    try:
        return model.model_validate_json(body)
    except ValidationError as error:
        raise ApiProblem(
            "Unexpected answer",
            "The service answered in a way this interface does not know. Use the same version of both.",
            None,
        ) from error


def _segment(value: str) -> str:
    return quote(value, safe="")
