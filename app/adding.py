"""Uploads from the command line: every file or URL is sent, and its job looked at until it ends."""

import asyncio
import shlex
import time
from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn

from app.client import ApiClient
from app.job_schemas import JobOut
from app.problems import ApiProblem
from app.rate import Rate, pace
from app.schemas import MembersOut, UploadedOut
from app.terminal import ERR, fail, plain
from indexer.catalog.precedence import MANY

_ENDED = ("done", "failed", "cancelled", "dead")
AT_ONCE = 50
"""How many open jobs one look asks for, however many there are."""
_TOGETHER = 10
_PAUSE_S = 0.3
_PATIENCE_S = 60.0


Source = tuple[str, Path | None]
"""What is added: a file by its name and path, or a URL without a path."""


@dataclass(frozen=True, slots=True)
class Added:
    """An upload, its job as it ended, and how many files came out of it."""

    row: UploadedOut
    job: JobOut | None = None
    members: MembersOut | None = None

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
    """Upload one by one, so that what is sent is searchable soon, and look at the jobs until they have ended.

    An archive's job ends when those of its files have ended.
    """
    counts = (TextColumn("{task.description}"), BarColumn(20), MofNCompleteColumn())
    watch, rate = Watch(api), Rate()
    with Progress(*counts, TextColumn("{task.fields[pace]}"), console=ERR, disable=quiet) as bars:
        sending = bars.add_task("uploading", total=len(files), pace="")
        reading = bars.add_task("indexing", total=len(files), pace="")

        async def look() -> None:
            await watch.look()
            ended = len(watch.ended)
            speed = rate.of(ended)
            left = (len(files) - ended) / speed if speed else None
            told = pace("files", speed, left) if ended < len(files) else ""
            bars.update(reading, completed=ended, pace=told)

        try:
            for name, path in files:
                watch.add(await _upload(api, name, path, collection, bulk=len(files) > MANY))
                bars.advance(sending)
                if watch.is_due:
                    await look()
            while watch.open:
                await look()
                await asyncio.sleep(watch.pause)
        except (asyncio.CancelledError, ApiProblem):
            if watch.sent:
                bars.stop()
                where = f"zhinao jobs -c {shlex.quote(collection)}"
                ERR.print(
                    f"{watch.sent} of {len(files)} files were sent and go on being read: "
                    f"see {plain(where)}"
                )
            raise
    return [added for _, added in sorted(watch.ended.items())]


class Watch:
    """Uploads until their jobs have ended; a look costs the same however many are open."""

    def __init__(self, api: ApiClient, *, patience_s: float = _PATIENCE_S) -> None:
        self.open: dict[int, UploadedOut] = {}
        self.ended: dict[int, Added] = {}
        self._api = api
        self._patience_s = patience_s
        self._last = -1
        self._looked = self._answered = time.monotonic()
        self._few = asyncio.Semaphore(_TOGETHER)
        self.pause = _PAUSE_S

    @property
    def sent(self) -> int:
        """How many uploads there are."""
        return len(self.open) + len(self.ended)

    @property
    def is_due(self) -> bool:
        """Whether the last look is a while ago, seen from between two uploads."""
        return time.monotonic() - self._looked >= 1

    def add(self, row: UploadedOut) -> None:
        """Have an upload looked at from now on."""
        self._answered = time.monotonic()
        if row.id is None:
            self.ended[self.sent] = Added(row)
        else:
            self.open[self.sent] = row

    async def look(self) -> None:
        """Ask for some of the open ones. Raises ApiProblem when nothing answers for a minute."""
        asked, self._last = turn(list(self.open), self._last)
        seen = await asyncio.gather(*(self._see(number) for number in asked))
        self._looked = time.monotonic()
        # Most of them over: the jobs are further than we are.
        self.pause = 0 if sum(seen) > AT_ONCE // 2 or not self.open else _pause(len(asked))

    async def _see(self, number: int) -> bool:
        row = self.open[number]
        async with self._few:
            try:
                added = await self._now(row)
            except ApiProblem as problem:
                if problem.status == 404:  # deleted meanwhile
                    added = Added(row.model_copy(update={"error": problem.detail}))
                elif problem.passing and time.monotonic() - self._answered < self._patience_s:
                    return False
                else:
                    raise
        self._answered = time.monotonic()
        if added is None:
            return False
        self.ended[number] = added
        del self.open[number]
        return True

    async def _now(self, row: UploadedOut) -> Added | None:
        job = await self._api.job(row.job_id) if row.job_id else None
        if job is not None and job.status not in _ENDED:
            return None
        return Added(row, job, (await self._api.document(row.id)).members if row.id else None)


def turn(numbers: Sequence[int], last: int) -> tuple[list[int], int]:
    """Which of the open uploads, in the order sent, are looked at after `last`, and the new `last`.

    Half of them are the first, because jobs are done in that order; the other half goes round, because some
    are done out of it, and one that is tried again and again may stand first for long.
    """
    half = AT_ONCE // 2
    first, rest = numbers[:half], numbers[half:]
    start = bisect_right(rest, last)
    around = [*rest[start:], *rest[:start]][:half]
    return [*first, *around], around[-1] if around else -1


def _pause(asked: int) -> float:
    return _PAUSE_S * max(1.0, asked / 15)


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
