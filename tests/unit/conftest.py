"""A scripted API: small, kept in memory, and shaped by `app.schemas`, so that the interface can be tried alone."""

import asyncio
import json
from collections.abc import AsyncIterator
from dataclasses import dataclass, field

import pytest
from pydantic import BaseModel
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

from app import job_schemas, schemas

HANDBOOK = (
    "第一章 总则\n本手册适用于全体员工。😀 入职满一年的员工享有年假。\n"
    "第二章 假期\n员工每年享有十五天带薪年假，需要提前三个工作日在系统中申请。"
    "未休完的年假可以顺延到次年三月底。病假需要提供医院证明，由部门主管批准。\n"
    "第三章 报销\n差旅费用应在出差结束后三十天内报销，发票须为原件。"
) + "\n补充说明：各部门可以根据实际情况制定细则，报人力资源部备案后施行。" * 12
MANUAL = (
    "1 Safety\nAlways disconnect the pump from the mains before opening the housing. "
    "2 Maintenance\nReplace the filter every 500 hours of operation, or once a year. "
    "Use only original spare parts. <script>alert(1)</script> & more.\n"
) * 3


def document(number: int, name: str, text: str, **changes: object) -> schemas.DocumentOut:
    values: dict[str, object] = {
        "id": f"doc{number}",
        "collection": "default",
        "filename": name,
        "title": None,
        "version": 1,
        "versions": [1],
        "media_type": "application/pdf" if name.endswith(".pdf") else "text/markdown",
        "size": 48_000 * (number + 1),
        "pages": 12 * (number + 1) if name.endswith(".pdf") else None,
        "chunks": 23 + number,
        "status": "ready",
        "error": None,
        "job_id": None,
        "similar": [],
        "created": 1_763_950_000.0 + number,
        "updated": 1_763_950_000.0 + number,
    }
    return schemas.DocumentOut.model_validate(values | changes)


@dataclass
class ScriptedApi:
    documents: dict[str, schemas.DocumentOut] = field(default_factory=dict)
    texts: dict[str, str] = field(default_factory=dict)
    jobs: dict[str, job_schemas.JobOut] = field(default_factory=dict)
    collections: list[str] = field(default_factory=lambda: ["default"])
    pause: float = 0.0
    asked: list[schemas.AskRequest] = field(default_factory=list)

    def add(self, name: str, text: str, **changes: object) -> str:
        one = document(len(self.texts), name, text, **changes)
        self.documents[one.id] = one
        self.texts[one.id] = text
        return one.id

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/search", self.search, methods=["POST"]),
                Route("/ask", self.ask, methods=["POST"]),
                Route("/documents", self.upload, methods=["POST"]),
                Route("/documents", self.list_documents),
                Route("/documents/{id}", self.delete, methods=["DELETE"]),
                Route("/documents/{id}/text", self.text),
                Route("/documents/{id}/content", self.text),
                Route("/jobs", self.list_jobs),
                Route("/jobs/{id}", self.job),
                Route("/collections", self.create, methods=["POST"]),
                Route("/collections", self.list_collections),
                Route("/collections/{name:path}", self.drop, methods=["DELETE"]),
                Route("/health/ready", self.ready),
            ]
        )

    def hit(self, rank: int, id_: str, start: int, end: int, heading: list[str]) -> schemas.HitOut:
        one = self.documents[id_]
        return schemas.HitOut(
            rank=rank,
            chunk_id=f"{id_}-{start}",
            document_id=id_,
            version=1,
            filename=one.filename,
            page=3 if one.pages else None,
            heading=heading,
            text=self.texts[id_][start:end],
            start=start,
            end=end,
            score=0.91 / rank,
            scores={"dense": 0.83 / rank, "words": 0.62 / rank, "rerank": 0.91 / rank},
        )

    def hits(self) -> list[schemas.HitOut]:
        found = []
        for rank, id_ in enumerate(self.documents, start=1):
            text = self.texts[id_]
            found.append(
                self.hit(rank, id_, min(30, len(text) // 4), min(150, len(text)), ["第二章 假期"])
            )
        return found

    async def search(self, request: Request) -> Response:
        asked = schemas.SearchRequest.model_validate_json(await request.body())
        if asked.collection not in self.collections:
            return problem("Not found", 404, f"There is no collection “{asked.collection}”.")
        hits = self.hits()[: asked.top_k]
        return reply(schemas.SearchResponse(hits=hits, timings_ms={"total": 12.5}))

    async def ask(self, request: Request) -> Response:
        asked = schemas.AskRequest.model_validate_json(await request.body())
        self.asked.append(asked)
        return StreamingResponse(self.events(asked), media_type="text/event-stream")

    async def events(self, asked: schemas.AskRequest) -> AsyncIterator[str]:
        def event(name: str, data: object) -> str:
            text = json.dumps(data, ensure_ascii=False)
            return f"event: {name}\r\ndata: {text}\r\n\r\n"

        yield ": ping\r\n\r\n"
        await asyncio.sleep(self.pause)
        yield event("retrieved", {"hits": [hit.model_dump() for hit in self.hits()]})
        if "break" in asked.question:
            yield event(
                "error",
                {
                    "type": "about:blank",
                    "title": "Broken",
                    "status": 503,
                    "detail": "No model answers <now>.",
                },
            )
            return
        if "silence" in asked.question:
            return
        answer = self.answer("refuse" in asked.question)
        for sentence in answer.sentences:
            await asyncio.sleep(self.pause)
            yield event("token", {"text": sentence.text})
        await asyncio.sleep(self.pause)
        yield event("finished", answer.model_dump())

    def answer(self, refused: bool) -> schemas.AskResponse:
        quotes = [
            "员工每年享有十五天带薪年假，需要提前三个工作日在系统中申请。",
            "未休完的年假可以顺延到次年三月底。",
        ]
        handbook = next(iter(self.documents))
        text = self.texts[handbook]
        citations = [
            schemas.CitationOut(
                marker=number,
                document_id=handbook,
                version=1,
                filename=self.documents[handbook].filename,
                page=3,
                heading=["员工手册", "第二章 假期"],
                quote=quote,
                start=text.index(quote),
                end=text.index(quote) + len(quote),
                chunk_id="c1",
                boxes=[],
            )
            for number, quote in enumerate(quotes, start=1)
        ]
        sentences = [
            schemas.SentenceOut(text=quote, markers=[number], support=0.98, verdict="supported")
            for number, quote in enumerate(quotes, start=1)
        ]
        return schemas.AskResponse(
            id="a1",
            answer="文档中没有相关内容。" if refused else f"{quotes[0]}[1]{quotes[1]}[2]",
            sentences=[] if refused else sentences,
            citations=[] if refused else citations,
            mode="chunks",
            refused=refused,
            model="extractive",
            usage=schemas.UsageOut(prompt_tokens=0, completion_tokens=0),
            timings_ms={"total": 420.0},
        )

    async def upload(self, request: Request) -> Response:
        rows = []
        async with request.form() as form:
            for file in form.getlist("files"):
                data = await file.read()
                name = str(file.filename)
                if not data:
                    rows.append(
                        row(name, error="The file is empty. Choose a file with text in it.")
                    )
                    continue
                known = next(
                    (id_ for id_, text in self.texts.items() if text.encode() == data), None
                )
                if known:
                    rows.append(row(name, id_=known, status="ready", duplicate=True))
                    continue
                job_id = f"job{len(self.jobs)}"
                id_ = self.add(
                    name,
                    data.decode("utf-8", "replace"),
                    status="processing",
                    job_id=job_id,
                    version=None,
                    versions=[],
                    collection=str(form["collection"]),
                )
                self.jobs[job_id] = job_schemas.JobOut(
                    id=job_id,
                    kind="ingest",
                    status="queued",
                    stage="queued",
                    done=0,
                    total=0,
                    error=None,
                    collection=str(form["collection"]),
                    document_id=id_,
                    filename=name,
                    attempts=1,
                    created=0,
                    updated=0,
                )
                rows.append(row(name, id_=id_, job_id=job_id, status="processing"))
        if all(one.error for one in rows):
            body = {
                "type": "t",
                "title": "Invalid input",
                "status": 422,
                "detail": "nothing was taken",
            }
            return JSONResponse(body | schemas.UploadResponse(documents=rows).model_dump(), 422)
        return reply(schemas.UploadResponse(documents=rows), 202)

    async def list_documents(self, request: Request) -> Response:
        query = request.query_params
        shown = [
            one
            for one in self.documents.values()
            if one.collection == query.get("collection", "default")
            and query.get("q", "") in one.filename
        ]
        return reply(schemas.DocumentsResponse(documents=shown, next_cursor=None))

    async def delete(self, request: Request) -> Response:
        id_ = request.path_params["id"]
        if id_ not in self.documents:
            return problem("Not found", 404, "There is no such document.")
        one = self.documents.pop(id_)
        return reply(
            schemas.DeleteReceipt(
                id=id_,
                deleted={"chunks": one.chunks},
                at_once=["chunks"],
                with_compaction=["segments", "words"],
            )
        )

    async def text(self, request: Request) -> Response:
        if request.path_params["id"] not in self.documents:
            return problem("Not found", 404, "There is no such document.")
        return PlainTextResponse(self.texts[request.path_params["id"]])

    async def list_jobs(self, request: Request) -> Response:
        return reply(job_schemas.JobsResponse(jobs=list(self.jobs.values()), next_cursor=None))

    async def job(self, request: Request) -> Response:
        """Every look moves the job on, so that nothing here waits for a clock."""
        id_ = request.path_params["id"]
        if id_ not in self.jobs:
            return problem("Not found", 404, "There is no such job.")
        one = self.jobs[id_]
        if one.status == "queued":
            one = one.model_copy(update={"status": "running", "stage": "embed", "total": 20})
        elif one.done < one.total:
            one = one.model_copy(update={"done": min(one.done + 7, one.total)})
        else:
            one = one.model_copy(update={"status": "done", "stage": "done"})
            known = self.documents[str(one.document_id)]
            self.documents[known.id] = known.model_copy(
                update={"status": "ready", "version": 1, "versions": [1]}
            )
        self.jobs[id_] = one
        return reply(one)

    async def create(self, request: Request) -> Response:
        asked = schemas.CollectionRequest.model_validate_json(await request.body())
        if asked.name in self.collections:
            return problem("Conflict", 409, f"“{asked.name}” exists already. Choose another name.")
        self.collections.append(asked.name)
        return reply(self.collection(asked.name), 201)

    def collection(self, name: str) -> schemas.CollectionOut:
        held = [one for one in self.documents.values() if one.collection == name]
        return schemas.CollectionOut(
            name=name,
            rerank=True,
            documents=len(held),
            chunks=sum(one.chunks for one in held),
            created=0,
        )

    async def list_collections(self, request: Request) -> Response:
        """One collection a page, so that readers have to follow the cursor."""
        at = int(request.query_params.get("cursor", "0"))
        page = [self.collection(name) for name in self.collections[at : at + 1]]
        cursor = str(at + 1) if at + 1 < len(self.collections) else None
        return reply(schemas.CollectionsResponse(collections=page, next_cursor=cursor))

    async def drop(self, request: Request) -> Response:
        self.collections.remove(request.path_params["name"])
        return Response(status_code=204)

    async def ready(self, request: Request) -> Response:
        body = schemas.ReadyOut(
            ready=False,
            parts={"worker": "starting"},
            profile="embedded",
            models={"answers": "extractive"},
        )
        return reply(body, 503)


def row(
    name: str,
    *,
    id_: str | None = None,
    job_id: str | None = None,
    status: str = "failed",
    duplicate: bool = False,
    error: str | None = None,
) -> schemas.UploadedOut:
    return schemas.UploadedOut(
        id=id_, filename=name, job_id=job_id, status=status, duplicate=duplicate, error=error
    )


def reply(body: BaseModel, status: int = 200) -> Response:
    return JSONResponse(body.model_dump(mode="json"), status_code=status)


def problem(title: str, status: int, detail: str) -> Response:
    body = schemas.Problem(type=f"/problems/{status}", title=title, status=status, detail=detail)
    return JSONResponse(
        body.model_dump(), status_code=status, media_type="application/problem+json"
    )


@pytest.fixture
def api() -> ScriptedApi:
    scripted = ScriptedApi()
    scripted.add("员工手册.pdf", HANDBOOK)
    scripted.add("pump-manual.md", MANUAL)
    return scripted
