"""Files on their way in: bounded, hashed while they are stored, and the collection's before a row names them."""

import asyncio
import io
import shutil
from typing import BinaryIO

from starlette.datastructures import UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import make_problem, respond
from app.queue import INGEST
from app.schemas import UploadedOut
from app.state import State
from indexer.catalog.arriving import Arrivals
from indexer.catalog.taking import MOST_NAME
from indexer.folders import Folders
from indexer.parse.names import clean_name
from pipeline.errors import InvalidInput, Unavailable

_FORM_BYTES = 2**20


class BodyLimit:
    """Refuses a body over `most_mib`: by its declared length at once, else while it arrives.

    The form around the files may take one MiB more.
    """

    def __init__(self, app: ASGIApp, most_mib: int) -> None:
        self._app = app
        self._most_mib = most_mib
        self._most = most_mib * 2**20 + _FORM_BYTES

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        declared = dict(scope["headers"]).get(b"content-length", b"0")
        if declared.isdigit() and int(declared) > self._most:
            await self._refuse(scope, receive, send)
            return
        got = 0
        started = False

        async def counted() -> Message:
            nonlocal got
            message = await receive()
            got += len(message.get("body", b""))
            if got > self._most:
                raise _BodyTooLarge
            return message

        async def watched(message: Message) -> None:
            nonlocal started
            if got > self._most and not started:
                return  # what the application made of the cut body; ours is sent instead
            started = True
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except Exception:
            if got <= self._most:
                raise
        if got > self._most and not started:
            await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = (
            f"the request is larger than {self._most_mib} MiB, the limit for all its files together: send fewer or "
            "smaller files, or raise ZHINAO_MAX_UPLOAD_MB"
        )
        await respond(make_problem("TooLarge", 413, detail))(scope, receive, send)


class _BodyTooLarge(Exception):
    pass


async def take(
    state: State, collection: str, file: UploadFile, *, bulk: bool = False
) -> UploadedOut:
    """One row of an upload: the file is taken and its job sent, or the row says what was wrong with it."""
    name = clean_name(file.filename or "")
    try:
        _check(name)
        async with state.uploading:
            return await asyncio.to_thread(take_file, state, collection, name, file.file, bulk=bulk)
    except InvalidInput as error:
        return UploadedOut(
            id=None, filename=name, job_id=None, status="failed", duplicate=False, error=str(error)
        )


def take_bytes(state: State, collection: str, name: str, data: bytes) -> UploadedOut:
    """`take_file` for bytes."""
    return take_file(state, collection, name, io.BytesIO(data))


def take_file(
    state: State,
    collection: str,
    name: str,
    file: BinaryIO,
    *,
    source: str | None = None,
    bulk: bool = False,
) -> UploadedOut:
    """Store the file, write the rows, send the job; `source` is the URL that it was fetched from.

    A `bulk` file waits until no other is waiting.

    Raises InvalidInput for a file that is not taken, NotFound without the collection, Unavailable without room.
    """
    core = state.services.core
    _check(name)
    arrivals = Arrivals(core.database, core.folders, core.catalog)
    taken = arrivals.take(collection, name, file, source=source, bulk=bulk)
    if taken.job and not taken.duplicate:
        try:
            state.queue.submit(taken.job, queue=INGEST)
            core.jobs.mark_sent([taken.job])
        except Unavailable:
            pass  # the row is queued: the relay sends it when Redis is back
    return UploadedOut(
        id=taken.document,
        filename=name,
        job_id=taken.job,
        status="queued" if taken.job else "done",
        duplicate=taken.duplicate,
        error=None,
    )


def sweep(folders: Folders) -> None:
    """Remove what a crash left of files on their way in. Call it while no other server uses the folder."""
    shutil.rmtree(folders.uploads, ignore_errors=True)


def _check(name: str) -> None:
    if not name:
        raise InvalidInput("the file has no name: send it with one")
    if len(name) > MOST_NAME:
        raise InvalidInput(
            f"the file's name has {len(name)} characters, at most {MOST_NAME} are taken: give it a shorter one"
        )
