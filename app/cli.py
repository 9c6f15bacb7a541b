"""The command line: `zhinao`, also `python -m app`."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, TypeVar

import typer

from app.adding import add_files, files_of
from app.backup_cli import backup, restore
from app.calls import Collection, Json, Url, call, default_url
from app.client import ApiClient, Finished, Token
from app.control_cli import cancel, retry
from app.database_cli import database
from app.evaluate_cli import evaluate, questions
from app.index_cli import index
from app.jobs_cli import delete, jobs
from app.models_cli import models
from app.problems import ApiProblem
from app.reindex_cli import reindex
from app.schedule_cli import schedule
from app.schemas import AskRequest, AskResponse, SearchRequest
from app.settings import load
from app.terminal import ERR, OUT, fail, place, plain, print_answer, print_json
from indexer.jobs.kinds import Queue
from pipeline.errors import RagError

app = typer.Typer(
    name="zhinao",
    help="Search documents and ask them questions; every sentence of an answer is cited.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)
app.add_typer(models, name="models")
app.add_typer(database, name="database")
app.add_typer(schedule, name="schedule")
app.add_typer(index, name="index")
for command in (jobs, cancel, retry, delete, reindex, questions, evaluate, backup, restore):
    app.command()(command)
T = TypeVar("T")
_MANY = 20


def main() -> None:
    """The entry point: errors become one sentence and an exit code, Ctrl-C ends quietly."""
    try:
        app()
    except (RagError, ApiProblem) as error:
        fail(str(error))
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
            fail(f'there is no role "{role}": use all, api or ui')


@app.command()
def worker(
    data: Annotated[Path | None, typer.Option(help="The server's data folder.")] = None,
    queue: Annotated[
        list[Queue] | None, typer.Option(help="Only jobs of: ingest (files), index or train.")
    ] = None,
) -> None:
    """Start workers beside a server that was started with REDIS_URL; Ctrl-C stops them."""
    from app.serve import work

    settings = load(data=data)
    if settings.redis_url is None:
        fail("a worker of its own needs REDIS_URL: the same Redis as the server's")
    work(settings, settings.redis_url.get_secret_value(), queue or list(Queue))


@app.command()
def add(
    paths: Annotated[
        list[str], typer.Argument(help="Files, folders with files, or URLs (https://...).")
    ],
    collection: Collection = "default",
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Upload files, or have URLs fetched, and wait until they are searchable."""
    files = files_of(paths)
    rows = call(url, lambda api: add_files(api, files, collection, quiet=as_json))
    if as_json:
        print_json([added.shown() for added in rows])
    for added in sorted(rows, key=lambda one: one.error is not None):  # what failed stands last
        if not as_json:
            mark = "[red]failed[/]" if added.error else "[green]ready[/]"
            note = f": {added.error}" if added.error else ""
            if added.members and not added.error:
                note = f": {added.members.read} of {added.members.total} files inside are read"
            note += " (known already)" if added.row.duplicate and not added.error else ""
            OUT.print(f"{mark}  {plain(added.row.filename)}{plain(note)}")
    failed = sum(added.error is not None for added in rows)
    if len(rows) > _MANY and not as_json:
        OUT.print(f"{len(rows) - failed} ready, {failed} failed")
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
    found = call(url, lambda api: api.search(request))
    if as_json:
        print_json(found.model_dump())
        return
    for hit in found.hits:
        where = place(hit.filename, hit.page, hit.heading, hit.cells)
        OUT.print(f"[bold]{hit.rank}[/]  [cyan]{plain(where)}[/]  {hit.score:.3f}")
        OUT.print(f"   {plain(' '.join(hit.text.split())[:300])}")
    if not found.hits:
        OUT.print("nothing found")


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
    answer = call(url, lambda api: _ask(api, request, stream=not as_json))
    if as_json:
        print_json(answer.model_dump())
    else:
        print_answer(answer)


@app.command()
def doctor(
    url: Url = None,
    deep: Annotated[
        bool, typer.Option("--deep", help="Read every byte of the stores, too, and compare them.")
    ] = False,
    mend: Annotated[
        bool, typer.Option("--mend", help="With --deep: mend what can be mended.")
    ] = False,
    compact: Annotated[
        bool, typer.Option("--compact", help="With --deep: leave no trace of what was deleted.")
    ] = False,
    data: Annotated[Path | None, typer.Option(help="The server's data folder.")] = None,
    as_json: Json = False,
) -> None:
    """Check what the server needs, and say how to mend what is broken."""
    from app.doctor import examine

    if (mend or compact) and not deep:
        fail("--mend and --compact go with --deep")
    settings = load(data=data)
    checks = examine(settings, url or default_url())
    if deep:
        from app.deep import examine_deep

        with ERR.status("looking") as status:
            checks += examine_deep(
                settings, mend=mend, compacted=compact, say=lambda what: status.update(plain(what))
            )
    if as_json:
        print_json(
            [
                {"part": c.part, "ok": c.ok, "says": c.says} | ({"index": c.told} if c.told else {})
                for c in checks
            ]
        )
    else:
        for check in checks:
            mark = "[green]ok[/]    " if check.ok else "[red]broken[/]"
            OUT.print(f"{mark}  {check.part}: {plain(check.says)}")
    if not all(check.ok for check in checks):
        raise typer.Exit(1)


@app.command()
def chat(
    collection: Annotated[
        str | None, typer.Option("--collection", "-c", help="Answer from these documents.")
    ] = None,
    model: Annotated[str | None, typer.Option(help="A model of /v1/models.")] = None,
    system: Annotated[str, typer.Option(help="The system message.")] = "",
    url: Url = None,
    as_json: Annotated[bool, typer.Option("--json", help="A line of JSON an answer.")] = False,
) -> None:
    """Talk with the chat model, or with a collection's documents; /help says how."""
    from app.chat_cli import chat as talk
    from app.chat_cli import read_line

    prompt = sys.stdin.isatty() and not as_json
    talk(
        url or default_url(),
        collection=collection,
        model=model,
        system=system,
        as_json=as_json,
        read=lambda: read_line(prompt=prompt),
    )


@app.command("serve-model")
def serve_model(
    roles: Annotated[list[str], typer.Argument(help="embed, rerank, chat: one or more.")],
    host: Annotated[str | None, typer.Option(help="Address to listen on.")] = None,
    port: Annotated[int | None, typer.Option(help="Port to listen on.")] = None,
    device: Annotated[str | None, typer.Option(help="auto, cpu, cuda or cuda:1.")] = None,
    engine: Annotated[str, typer.Option(help="auto, vllm or transformers (chat).")] = "auto",
) -> None:
    """Serve models under /v1 without documents; which ones, the settings say."""
    from app.model_server import serve_models

    on = {"device": device} if device is not None else None
    settings = load(host=host, port=port, embedder=on, reranker=on, chat=on)
    match engine:
        case "auto" | "vllm" | "transformers":
            serve_models(settings, roles, engine=engine)
        case _:
            fail(f'there is no engine "{engine}": use auto, vllm or transformers')


async def _ask(api: ApiClient, request: AskRequest, *, stream: bool) -> AskResponse:
    answer: AskResponse | None = None
    async for event in api.ask(request):
        if isinstance(event, Token) and stream and sys.stderr.isatty():
            ERR.print(event.text, end="", style="dim", markup=False)
        elif isinstance(event, Finished):
            answer = event.answer
    assert answer is not None
    if stream and sys.stderr.isatty():
        ERR.print()
    return answer


def _request(kind: Callable[..., T], **values: object) -> T:
    from pydantic import ValidationError

    try:
        return kind(**values)
    except ValidationError as error:
        first = error.errors()[0]
        fail(f"{'.'.join(map(str, first['loc']))}: {first['msg']}")
