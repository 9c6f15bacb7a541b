"""`zhinao jobs`, `cancel` and `retry`."""

import asyncio
from pathlib import Path
from typing import Annotated

import typer
from rich.table import Table

from app.calls import Json, Url, call
from app.client import ApiClient
from app.job_schemas import CancelledOut, DeleteRequest
from app.settings import load
from app.terminal import OUT, fail, plain, print_json

Ids = Annotated[list[str], typer.Argument(help="Ids of jobs; `zhinao jobs` lists them.")]
Some = Annotated[str | None, typer.Option("--collection", "-c", help="Only of this collection.")]


def jobs(
    job_id: Annotated[str | None, typer.Argument(help="Show one job.")] = None,
    collection: Some = None,
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
    """List jobs, newest first, or show one."""
    if traceback:
        if job_id is None:
            fail("name the job whose traceback is wanted")
        _print_trace(job_id, data, as_json=as_json)
        return
    if job_id is not None:
        rows = [call(url, lambda api: api.job(job_id))]
    else:
        rows = call(url, lambda api: api.jobs(collection, limit=limit)).jobs
    if as_json:
        print_json([row.model_dump() for row in rows])
        return
    table = Table("id", "kind", "of", "status", "stage", "done", "error")
    for row in rows:
        done = f"{row.done}/{row.total}" if row.total else ""
        table.add_row(
            row.id,
            row.kind,
            plain(row.filename or row.collection),
            row.status,
            row.stage,
            done,
            plain(row.error or ""),
        )
    OUT.print(table)


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


def cancel(job_ids: Ids, url: Url = None, as_json: Json = False) -> None:
    """Stop jobs; nothing of them can be found afterwards, and they can be retried."""

    async def each(api: ApiClient) -> list[CancelledOut]:
        return await asyncio.gather(*(api.cancel(job_id) for job_id in job_ids))

    ended = call(url, each)
    if as_json:
        print_json([row.model_dump() for row in ended])
    else:
        OUT.print(f"cancelled {sum(row.cancelled for row in ended)}")


def retry(
    job_ids: Annotated[list[str] | None, typer.Argument(help="Ids of jobs.")] = None,
    failed: Annotated[bool, typer.Option("--failed", help="All that failed or died.")] = False,
    collection: Some = None,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """Queue jobs again that failed, died or were cancelled."""
    if bool(job_ids) == failed or (collection and not failed):
        fail("name jobs, or say --failed (with --collection for one collection's)")

    async def again(api: ApiClient) -> int:
        if failed:
            return (await api.retry_all(collection)).retried
        return len(await asyncio.gather(*(api.retry(job_id) for job_id in job_ids or ())))

    retried = call(url, again)
    if as_json:
        print_json({"retried": retried})
    else:
        OUT.print(f"queued {retried} again")
