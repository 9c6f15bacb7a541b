"""Uploads from the command line: every file or URL is sent, then their jobs are waited for."""

import asyncio
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.client import ApiClient
from app.job_schemas import JobOut
from app.problems import ApiProblem
from app.schemas import MembersOut, UploadedOut
from app.terminal import ERR, fail
from indexer.catalog.precedence import MANY

_ENDED = ("done", "failed", "cancelled", "dead")


Source = tuple[str, Path | None]
"""What is added: a file by its name and path, or a URL without a path."""


@dataclass(frozen=True, slots=True)
class Added:
    """An upload, its job as it ended, and how many files came out of it."""

    row: UploadedOut
    job: JobOut | None
    members: MembersOut | None

    @property
    def error(self) -> str | None:
        """What was wrong with it, None when it is searchable."""
        failed = self.job is not None and self.job.status != "done"
        return self.row.error or ((self.job.error if self.job else None) if failed else None)

    def shown(self) -> dict[str, Any]:
        """As JSON."""
        return {**self.row.model_dump(), "members": self.members and self.members.model_dump()}


async def add_files(
    api: ApiClient, files: list[Source], collection: str, *, quiet: bool
) -> list[Added]:
    """Upload one by one, so that what is sent is searchable soon; then wait for the jobs.

    An archive's job ends when those of its files have ended.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn())
    with Progress(*columns, console=ERR, disable=quiet) as progress:
        sending = progress.add_task("uploading", total=len(files))
        rows: list[UploadedOut] = []
        for name, path in files:
            rows.append(await _upload(api, name, path, collection, bulk=len(files) > MANY))
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
        return [Added(row, ended.get(row.job_id or ""), await _members(api, row)) for row in rows]


async def _members(api: ApiClient, row: UploadedOut) -> MembersOut | None:
    return (await api.document(row.id)).members if row.id else None


async def _upload(
    api: ApiClient, name: str, path: Path | None, collection: str, *, bulk: bool
) -> UploadedOut:
    try:
        if path is None:
            return (await api.upload_url(name, collection)).documents[0]
        return (await api.upload([(name, path)], collection, bulk=bulk)).documents[0]
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


def files_of(given: list[str]) -> list[Source]:
    """Files with the name each gets: a file's own, or its path below the folder that was named; URLs as they are."""
    found: list[Source] = []
    for one in given:
        path = Path(one)
        if one.lower().startswith(("http://", "https://")):
            found.append((one, None))
        elif path.is_dir():
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
