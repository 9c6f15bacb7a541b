"""`zhinao jobs`, `cancel` and `retry`."""

import asyncio
from typing import Annotated

import typer
from rich.table import Table

from app.calls import Json, Url, call
from app.client import ApiClient
from app.schemas import CancelledOut
from app.terminal import OUT, fail, plain, print_json

Ids = Annotated[list[str], typer.Argument(help="Ids of jobs; `zhinao jobs` lists them.")]
Some = Annotated[str | None, typer.Option("--collection", "-c", help="Only of this collection.")]


def jobs(
    job_id: Annotated[str | None, typer.Argument(help="Show one job.")] = None,
    collection: Some = None,
    limit: Annotated[int, typer.Option(min=1, max=500)] = 20,
    url: Url = None,
    as_json: Json = False,
) -> None:
    """List jobs, newest first, or show one."""
    if job_id is not None:
        rows = [call(url, lambda api: api.job(job_id))]
    else:
        rows = call(url, lambda api: api.jobs(collection, limit=limit)).jobs
    if as_json:
        print_json([row.model_dump() for row in rows])
        return
    table = Table("id", "file", "status", "stage", "done", "error")
    for row in rows:
        done = f"{row.done}/{row.total}" if row.total else ""
        table.add_row(
            row.id, plain(row.filename or ""), row.status, row.stage, done, plain(row.error or "")
        )
    OUT.print(table)


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
