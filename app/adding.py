"""Uploads from the command line: every file is sent, then their jobs are waited for."""

import asyncio
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.client import ApiClient
from app.problems import ApiProblem
from app.schemas import JobOut, UploadedOut
from app.terminal import ERR, fail

_ENDED = ("done", "failed", "cancelled", "dead")


async def add_files(
    api: ApiClient, files: list[tuple[str, Path]], collection: str, *, quiet: bool
) -> list[tuple[dict[str, Any], JobOut | None]]:
    """Upload one by one, so that what is sent is searchable soon; then wait for the jobs."""
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=ERR, disable=quiet) as progress:
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


def files_of(paths: list[Path]) -> list[tuple[str, Path]]:
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
            fail(f"{path} is no file and no folder")
    if not found:
        fail("there are no files in what you named")
    return found
