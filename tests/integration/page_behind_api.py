"""A program for test_interface: a small API, and the page behind a route that starts no lifespan of its own.

`python page_behind_api.py PORT` serves until it is ended. The page is also at `/alone/...`, where paths of
the API reach it, as they do when it runs in a process of its own.
"""

import sys

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Mount, Route
from starlette.types import Receive, Scope, Send

from app.job_schemas import JobsResponse
from app.schemas import CollectionsResponse, DocumentsResponse
from ui.main import Interface, create_ui


async def content(request: Request) -> Response:
    if request.path_params["id"] == "gone":
        body = {"type": "t", "title": "T", "status": 404, "detail": "There is no such document."}
        return JSONResponse(body, 404)
    return PlainTextResponse(
        f"{request.path_params['id']} {request.query_params.get('version')}",
        headers={"Content-Disposition": "attachment", "X-Internal": "1", "Set-Cookie": "a=b"},
    )


async def picture(request: Request) -> Response:
    if request.path_params["number"] == "9":
        body = {"type": "t", "title": "T", "status": 404, "detail": "There is no page 9."}
        return JSONResponse(body, 404)
    asked = f"{request.path_params} {request.query_params}"
    return Response(asked.encode(), media_type="image/png", headers={"X-Internal": "1"})


def answer(body: DocumentsResponse | JobsResponse | CollectionsResponse) -> JSONResponse:
    return JSONResponse(body.model_dump())


class Alone:
    def __init__(self, interface: Interface) -> None:
        self.interface = interface

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        path = scope["path"].removeprefix("/alone")
        await self.interface({**scope, "path": path, "root_path": ""}, receive, send)


def paths(routes: list) -> list[str]:
    found = []
    for route in routes:
        # FastAPI keeps an included router as one route without a path.
        inner = getattr(route, "original_router", None)
        found += paths(inner.routes) if inner is not None else [route.path]
    return found


def outer(interface: Interface) -> Starlette:
    (gradio,) = [route.app for route in interface.app.routes if isinstance(route, Mount)]
    about = {
        "paths": sorted(paths(gradio.routes)),
        "visible": sorted(
            {one["api_visibility"] for one in gradio.get_blocks().config["dependencies"]}
        ),
        "folder": str(interface._folder),
    }

    async def stop(_: Request) -> Response:
        await interface.stop()
        return JSONResponse(about)

    return Starlette(
        routes=[
            Route("/about", lambda _: JSONResponse(about)),
            Route("/stop", stop, methods=["POST"]),
            Route(
                "/documents", lambda _: answer(DocumentsResponse(documents=[], next_cursor=None))
            ),
            Route("/jobs", lambda _: answer(JobsResponse(jobs=[], next_cursor=None))),
            Route(
                "/collections",
                lambda _: answer(CollectionsResponse(collections=[], next_cursor=None)),
            ),
            Route("/documents/{id}/content", content),
            Route("/documents/{id}/pages/{number}", picture),
            Mount("/alone", Alone(interface)),
            Mount("/", interface),
        ]
    )


if __name__ == "__main__":
    port = int(sys.argv[1])
    app = outer(create_ui(f"http://127.0.0.1:{port}"))
    uvicorn.run(app, port=port, log_level="warning", timeout_graceful_shutdown=1)
