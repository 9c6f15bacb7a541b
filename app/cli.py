"""The command line: `zhinao`, also `python -m app`."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, NoReturn, TypeVar

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn
from rich.table import Table

from app.client import ApiClient, Finished, Token
from app.problems import ApiProblem
from app.schemas import AskRequest, AskResponse, JobOut, SearchRequest, UploadedOut
from app.settings import load
from pipeline.errors import RagError

app = typer.Typer(
    name="zhinao",
    help="Search documents and ask them questions; every sentence of an answer is cited.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
T = TypeVar("T")
_out = Console(soft_wrap=True)
_err = Console(stderr=True, soft_wrap=True)

Url = Annotated[
    str | None, typer.Option("--url", help="The server (default: ZHINAO_URL, else this machine's).")
]
Json = Annotated[bool, typer.Option("--json", help="Print JSON.")]
Collection = Annotated[str, typer.Option("--collection", "-c", help="The collection.")]
_ENDED = ("done", "failed", "cancelled", "dead")


def main() -> None:
    """The entry point: errors become one sentence and an exit code, Ctrl-C ends quietly."""
    try:
        app()
    except (RagError, ApiProblem) as error:
        _fail(str(error))
    except KeyboardInterrupt:
        sys.exit(130)


@app.command()
def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    data: Annotated[Path | None, typer.Option(help="The folder that holds everything.")] = None,
    no_samples: Annotated[bool, typer.Option("--no-samples", help="Do not add samples.")] = False,
    no_worker: Annotated[bool, typer.Option("--no-worker", help="Start no worker.")] = False,
    role: Annotated[str, typer.Option(help="all, api (no page) or ui (the page alone).")] = "all",
) -> None:
    """Start Redis, workers, API and page; Ctrl-C stops them all."""
    settings = load(host=host, port=port, data=data, samples=False if no_samples else None)
    match role:
        case "all" | "api":
            from app.serve import serve as run

            run(settings, worker=not no_worker, page=role == "all")
        case "ui":
            import uvicorn

            print(f"the page is at http://{settings.host}:{settings.port}", flush=True)  # noqa: T201
            uvicorn.run(
                "ui.main:app_from_environment",
                factory=True,
                host=settings.host,
                port=settings.port,
                log_level="warning",
            )
        case _:
            _fail(f'there is no role "{role}": use all, api or ui')


@app.command()
def worker(
    data: Annotated[Path | None, typer.Option(help="The server's data folder.")] = None,
) -> None:
    """Start a worker beside a server that was started with REDIS_URL; Ctrl-C stops it."""
    from app.serve import worker_program

    settings = load(data=data)
    if settings.redis_url is None:
        _fail("a worker of its own needs REDIS_URL: the same Redis as the server's")
    program = worker_program(settings, settings.redis_url.get_secret_value())
    os.execvpe(program.command[0], list(program.command), {**os.environ, **program.environment})  # noqa: S606


@app.command()
def add(
    paths: Annotated[list[Path], typer.Argument(help="Files, or folders with files.")],
    collection: Collection = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Upload files and wait until they are searchable."""
    files = _files(paths)
    rows = _call(url, lambda api: _add(api, files, collection, quiet=as_json))
    if as_json:
        _print_json([row for row, _ in rows])
    failed = 0
    for row, job in rows:
        error = row["error"] or (job.error if job and job.status != "done" else None)
        failed += bool(error)
        if not as_json:
            mark = "[red]failed[/]" if error else "[green]ready[/]"
            note = f": {error}" if error else (" (known already)" if row["duplicate"] else "")
            _out.print(f"{mark}  {_plain(row['filename'])}{_plain(note)}")
    if failed:
        raise typer.Exit(1)


@app.command()
def search(
    query: str,
    collection: Collection = "default",
    top_k: Annotated[int, typer.Option("--top-k", "-k", min=1, max=100)] = 10,
    mode: Annotated[str, typer.Option(help="hybrid, dense or words.")] = "hybrid",
    no_rerank: Annotated[bool, typer.Option("--no-rerank")] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Find passages."""
    request = _request(
        SearchRequest,
        query=query,
        collection=collection,
        top_k=top_k,
        mode=mode,
        rerank=not no_rerank,
    )
    found = _call(url, lambda api: api.search(request))
    if as_json:
        _print_json(found.model_dump())
        return
    for hit in found.hits:
        place = _place(hit.filename, hit.page, hit.heading)
        _out.print(f"[bold]{hit.rank}[/]  [cyan]{_plain(place)}[/]  {hit.score:.3f}")
        _out.print(f"   {_plain(' '.join(hit.text.split())[:300])}")
    if not found.hits:
        _out.print("nothing found")


@app.command()
def ask(
    question: str,
    collection: Collection = "default",
    mode: Annotated[str, typer.Option(help="auto, chunks or document.")] = "auto",
    document: Annotated[list[str] | None, typer.Option(help="Only these document ids.")] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Ask a question; the answer's sentences point at the words that support them."""
    request = _request(
        AskRequest, question=question, collection=collection, mode=mode, document_ids=document
    )
    answer = _call(url, lambda api: _ask(api, request, stream=not as_json))
    if as_json:
        _print_json(answer.model_dump())
    else:
        print_answer(answer)


@app.command()
def jobs(
    job_id: Annotated[str | None, typer.Argument(help="Show one job.")] = None,
    collection: Annotated[str | None, typer.Option("--collection", "-c")] = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first, or show one."""
    if job_id is not None:
        rows = [_call(url, lambda api: api.job(job_id))]
    else:
        rows = _call(url, lambda api: api.jobs(collection, limit=limit)).jobs
    if as_json:
        _print_json([row.model_dump() for row in rows])
        return
    table = Table("id", "file", "status", "stage", "done", "error")
    for row in rows:
        done = f"{row.done}/{row.total}" if row.total else ""
        table.add_row(
            row.id, _plain(row.filename or ""), row.status, row.stage, done, _plain(row.error or "")
        )
    _out.print(table)


@app.command()
def doctor(url: Url = None, as_json: Json = False) -> None:
    """Check what the server needs, and say how to mend what is broken."""
    from app.doctor import examine

    checks = examine(load(), url or _default_url())
    if as_json:
        _print_json([{"part": c.part, "ok": c.ok, "says": c.says} for c in checks])
    else:
        for check in checks:
            mark = "[green]ok[/]    " if check.ok else "[red]broken[/]"
            _out.print(f"{mark}  {check.part}: {_plain(check.says)}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


def print_answer(answer: AskResponse) -> None:
    """An answer and its citations, for a person."""
    label = "" if answer.model != "extractive" else "  (extractive: the documents' own sentences)"
    _out.print(f"[bold]{_plain(answer.answer)}[/][dim]{label}[/]")
    for citation in answer.citations:
        place = _place(citation.filename, citation.page, citation.heading)
        _out.print(f"  [cyan][{citation.marker}][/] {_plain(place)}".replace("[[", r"\[["))
        _out.print(f"      “{_plain(' '.join(citation.quote.split()))}”")


async def _ask(api: ApiClient, request: AskRequest, *, stream: bool) -> AskResponse:
    answer: AskResponse | None = None
    async for event in api.ask(request):
        if isinstance(event, Token) and stream and sys.stderr.isatty():
            _err.print(event.text, end="", style="dim", markup=False)
        elif isinstance(event, Finished):
            answer = event.answer
    assert answer is not None
    if stream and sys.stderr.isatty():
        _err.print()
    return answer


async def _add(
    api: ApiClient, files: list[tuple[str, Path]], collection: str, *, quiet: bool
) -> list[tuple[dict[str, Any], JobOut | None]]:
    """Upload one by one, so that what is sent is searchable soon; then wait for the jobs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=_err, disable=quiet) as progress:
        sending = progress.add_task("uploading", total=len(files))
        rows: list[UploadedOut] = []
        for name, path in files:
            rows.append(await _upload(api, name, path, collection))
            progress.advance(sending)
        waiting = progress.add_task("indexing", total=len(rows))
        ended: dict[str, JobOut] = {}
        open_ids = [row.job_id for row in rows if row.job_id]
        progress.update(waiting, completed=len(rows) - len(open_ids))
        while open_ids:
            for job_id in open_ids:
                job = await api.job(job_id)
                if job.status in _ENDED:
                    ended[job_id] = job
            open_ids = [job_id for job_id in open_ids if job_id not in ended]
            progress.update(waiting, completed=len(rows) - len(open_ids))
            await asyncio.sleep(0.3 if open_ids else 0)
    return [(row.model_dump(), ended.get(row.job_id or "")) for row in rows]


async def _upload(api: ApiClient, name: str, path: Path, collection: str) -> UploadedOut:
    try:
        return (await api.upload([(name, path)], collection)).documents[0]
    except ApiProblem as problem:
        if problem.status != 422:
            raise
        return UploadedOut(
            id=None,
            filename=name,
            job_id=None,
            status="failed",
            duplicate=False,
            error=problem.detail,
        )


def _files(paths: list[Path]) -> list[tuple[str, Path]]:
    """Files with the name each gets: a file's own, or its path below the folder that was named."""
    found: list[tuple[str, Path]] = []
    for path in paths:
        if path.is_dir():
            inside = sorted(
                p for p in path.rglob("*") if p.is_file() and not p.name.startswith(".")
            )
            found.extend((p.relative_to(path).as_posix(), p) for p in inside)
        elif path.is_file():
            found.append((path.name, path))
        else:
            _fail(f"{path} is no file and no folder")
    if not found:
        _fail("there are no files in what you named")
    return found


def _call(url: str | None, action: Callable[[ApiClient], Awaitable[T]]) -> T:
    async def run() -> T:
        async with _client(url or _default_url()) as api:
            return await action(api)

    return asyncio.run(run())


@asynccontextmanager
async def _client(url: str) -> AsyncIterator[ApiClient]:
    api = ApiClient(url)
    try:
        yield api
    finally:
        await api.aclose()


def _default_url() -> str:
    if url := os.environ.get("ZHINAO_URL"):
        return url
    settings = load()
    return f"http://127.0.0.1:{settings.port}"


def _request(kind: Callable[..., T], **values: object) -> T:
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        _fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")


def _place(filename: str, page: int | None, heading: list[str]) -> str:
    parts = [filename, f"p. {page}" if page else "", " › ".join(heading)]
    return " · ".join(part for part in parts if part)


def _plain(text: str) -> str:
    from rich.markup import escape

    return escape(text)


def _print_json(value: object) -> None:
    print(json.dumps(value, ensure_ascii=False, indent=2))  # noqa: T201


def _fail(message: str) -> NoReturn:
    _err.print(f"[red]error:[/] {_plain(message)}")
    sys.exit(1)
