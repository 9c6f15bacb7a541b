"""`zhinao reindex`."""

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Annotated, Any

import typer
from pydantic import TypeAdapter, ValidationError

from app.calls import Json, Url, call
from app.client import ApiClient
from app.job_schemas import JobOut, ReindexRequest
from app.schemas import KnownAnswer
from app.terminal import ERR, OUT, bars, fail, plain, print_json

_STAGES = {"fill": "indexing", "compare": "comparing", "switch": "switching"}
Questions = Annotated[
    Path | None,
    typer.Option(
        help='JSON to compare by: [{"question": "...", "document_ids": ["..."]}, ...]; without it by the '
        "collection's own (zhinao questions)."
    ),
]


def reindex(
    collection: Annotated[str, typer.Argument(help="The collection.")],
    back: Annotated[bool, typer.Option("--back", help="Go back to the index before.")] = False,
    force: Annotated[
        bool, typer.Option("--force", help="Switch whatever the comparison would say.")
    ] = False,
    margin: Annotated[
        float, typer.Option(min=0, max=1, help="What the new index may find less of; 0.02 is 2 %.")
    ] = 0.02,
    agreement: Annotated[
        float,
        typer.Option(
            min=0, max=1, help="The share of recent queries that must find what they found first."
        ),
    ] = 0.6,
    questions: Questions = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Index a collection anew while it is searched and added to, with the embedder and sizes that are set."""
    request = ReindexRequest(
        collection=collection,
        back=back,
        force=force,
        margin=margin,
        agreement=agreement,
        questions=_read(questions) if questions else [],
    )
    job = call(url, lambda api: _asked(api, request, quiet=as_json))
    if as_json:
        print_json(job.model_dump())
    elif job.status == "done":
        OUT.print(plain(_told(job.result)))
    if job.status != "done":
        fail(job.error or f"the job ended as {job.status}")


async def _asked(api: ApiClient, request: ReindexRequest, *, quiet: bool) -> JobOut:
    return await followed(api, await api.reindex(request), _STAGES, quiet=quiet)


async def followed(
    api: ApiClient, job: JobOut, stages: Mapping[str, str], *, quiet: bool
) -> JobOut:
    """A job at its end, with a bar for each of the stages that are named. Ctrl-C ends the watching alone."""
    if not quiet:
        ERR.print(
            f"job {job.id}; it goes on without this command, and zhinao cancel {job.id} stops it"
        )
    with bars(quiet=quiet) as say:
        async for event in api.job_events(job.id):
            if event.stage in stages and event.status == "running":
                say(stages[event.stage], event.done, event.total)
    return await api.job(job.id)


def _told(result: dict[str, Any]) -> str:
    index = f"{result['chunks']} chunks by {result['embedder']}, sizes {result['chunking']}"
    if not result["switched"]:
        return f"nothing to do: {index}, as is set"
    compared = result["compared"]
    found = (
        f"; of {compared['questions']} questions the old index found {compared['before']:.1%} of what answers them "
        f"({compared['dense_before']:.1%} by vectors alone), this one {compared['after']:.1%} "
        f"({compared['dense_after']:.1%})"
        if compared
        else ""
    )
    recent = (
        f"; {compared['agreement']:.1%} of {compared['queries']} recent queries find what they found first"
        if compared and compared.get("queries")
        else ""
    )
    return f"searched from now on: {index}{found}{recent}"


def _read(path: Path) -> list[KnownAnswer]:
    try:
        return TypeAdapter(list[KnownAnswer]).validate_python(json.loads(path.read_text("utf-8")))
    except OSError as error:
        fail(f"{path} cannot be read: {error.strerror}")
    except (ValueError, ValidationError) as error:
        first = str(error).splitlines()[0]
        fail(f"{path} is no list of questions with the ids of their documents: {first}")
