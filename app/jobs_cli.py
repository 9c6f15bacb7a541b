"""`zhinao jobs` and `delete`."""

import shlex
from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, NoReturn

import typer
from rich.box import SIMPLE_HEAD
from rich.table import Column, Table

from app.calls import Json, Kinds, Some, Url, call
from app.client import ApiClient
from app.following import follow_job, follow_queue
from app.job_schemas import DeleteRequest, JobOut
from app.settings import load
from app.terminal import OUT, fail, plain, print_json
from pipeline.types import JobStatus

_ENDED_BADLY = ("failed", "dead")


def jobs(
    job_id: Annotated[
        str | None, typer.Argument(help="Show one job, and those of the files in its archive.")
    ] = None,
    collection: Some = None,
    status: Annotated[
        JobStatus | None, typer.Option(help="Only jobs that stand like this.")
    ] = None,
    kind: Kinds = None,
    follow: Annotated[
        bool, typer.Option("--follow", "-f", help="Show what changes until nothing is open.")
    ] = False,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    traceback: Annotated[
        bool,
        typer.Option("--traceback", help="On the server's machine: where its error came from."),
    ] = False,
    data: Annotated[
        Path | None, typer.Option(help="The server's data folder, for --traceback.")
    ] = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first, or show one; with --follow as they change."""
    if traceback:
        if job_id is None:
            fail("name the job whose traceback is wanted")
        _print_trace(job_id, data, as_json=as_json)
        return
    if job_id is not None and (collection or status or kind):
        fail("name a job, or say which ones to list: not both")
    if follow:
        if status is not None:
            fail("--follow shows how many jobs there are of every status: leave --status out")
        _follow(job_id, collection, kind or (), url, as_json=as_json)
    rows = call(url, lambda api: _listed(api, job_id, collection, status, kind or (), limit))
    if as_json:
        print_json([row.model_dump() for row in rows])
        return
    ids = (Column(name, no_wrap=True) for name in ("id", "status", "kind"))
    table = Table(*ids, "of", "progress", box=SIMPLE_HEAD)
    for row in rows:
        table.add_row(
            row.id,
            row.status,
            row.kind,
            plain(row.filename or row.collection),
            plain(progress_of(row)),
        )
    OUT.print(table)
    for row in rows:
        if row.error:  # a column would be too narrow for a sentence
            OUT.print(
                plain(f"{row.id}: {row.error}"), style="red" if row.status in _ENDED_BADLY else None
            )
    if any(row.status in _ENDED_BADLY for row in rows):
        OUT.print(_what_to_do(rows, collection))


async def _listed(
    api: ApiClient,
    job_id: str | None,
    collection: str | None,
    status: str | None,
    kinds: Sequence[str],
    limit: int,
) -> list[JobOut]:
    """Jobs as they are asked for; after a job that is named, those of the files in its archive."""
    if job_id is None:
        page = await api.jobs(collection, kinds=kinds, status=status, limit=limit)
        return page.jobs
    job = await api.job(job_id)
    return [job, *(await api.jobs(parent=job_id, limit=limit)).jobs]


def progress_of(job: JobOut) -> str:
    """The stage of a job and how far it is: `embed 5/20`, with its share while it runs."""
    if not job.total:
        return job.stage
    share = f" ({job.done / job.total:.0%})" if job.status == "running" else ""
    return f"{job.stage} {job.done}/{job.total}{share}".strip()


def _what_to_do(rows: Sequence[JobOut], collection: str | None) -> str:
    bad = [row.id for row in rows if row.status in _ENDED_BADLY]
    one = bad[0] if len(bad) == 1 else "ID"
    every = f"zhinao retry --failed{f' -c {shlex.quote(collection)}' if collection else ''}"
    return plain(f"mend what the error says, then: zhinao retry {one}, or for all of them: {every}")


def _follow(
    job_id: str | None,
    collection: str | None,
    kinds: Sequence[str],
    url: str | None,
    *,
    as_json: bool,
) -> NoReturn:
    """Ends the command: with code 1 where a job that is named did not end well."""
    if job_id is None:
        call(url, lambda api: follow_queue(api, collection, kinds, as_json=as_json))
        raise typer.Exit
    job = call(url, lambda api: follow_job(api, job_id, as_json=as_json))
    if job.status != "done":
        fail(job.error or f"the job ended as {job.status}")
    raise typer.Exit


def _print_trace(job_id: str, data: Path | None, *, as_json: bool) -> None:
    """Read from the database itself: no API gives out what a traceback may hold."""
    from indexer.jobs.jobs import Jobs
    from indexer.sql.database import Database

    database = Database(load(data=data).database)
    try:
        trace = Jobs(database).trace(job_id)
    finally:
        database.close()
    if as_json:
        print_json({"id": job_id, "traceback": trace})
    else:
        OUT.print(plain(trace or "this job had no error"))


def delete(
    document_ids: Annotated[list[str] | None, typer.Argument(help="Ids of documents.")] = None,
    collection: Annotated[
        str, typer.Option("--collection", "-c", help="The documents' collection.")
    ] = "default",
    everything: Annotated[
        bool, typer.Option("--all", help="The collection itself, with all that is in it.")
    ] = False,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Delete documents, or a whole collection, in the background."""
    if bool(document_ids) == everything:
        fail("name documents, or say --all for the whole collection")
    request = DeleteRequest(collection=collection, document_ids=document_ids or None)
    job = call(url, lambda api: api.delete_many(request))
    if as_json:
        print_json(job.model_dump())
    else:
        OUT.print(f"job {job.id} deletes them: see zhinao jobs {job.id}")
