"""Files on their way in: bounded, hashed, and moved to the collection's originals before a row names them."""

import asyncio
import hashlib
import os
import uuid
from pathlib import Path, PurePosixPath

from starlette.datastructures import UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import make_problem, respond
from app.queue import INGEST
from app.schemas import UploadedOut
from app.state import State
from indexer.catalog import Upload
from indexer.folders import Folders
from indexer.parse.media import sniff
from pipeline.errors import InvalidInput, Unavailable


class BodyLimit:
    """Refuses a body over `most` bytes: by its declared length at once, else while it arrives."""

    def __init__(self, app: ASGIApp, most: int) -> None:
        self._app = app
        self._most = most

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
            started = started or message["type"] == "http.response.start"
            await send(message)

        try:
            await self._app(scope, counted, watched)
        except _BodyTooLarge:
            if not started:
                await self._refuse(scope, receive, send)

    async def _refuse(self, scope: Scope, receive: Receive, send: Send) -> None:
        detail = (
            f"the request is larger than {self._most // 2**20} MiB: send fewer or smaller files, "
            "or raise ZHINAO_MAX_UPLOAD_MB"
        )
        await respond(make_problem("TooLarge", 413, detail))(scope, receive, send)


class _BodyTooLarge(Exception):
    pass


async def take(state: State, collection: str, file: UploadFile) -> UploadedOut:
    """One row of an upload: the file is taken and its job sent, or the row says what was wrong with it."""
    name = clean_name(file.filename or "")
    try:
        data = await file.read()
        return await asyncio.to_thread(take_bytes, state, collection, name, data)
    except InvalidInput as error:
        return UploadedOut(
            id=None, filename=name, job_id=None, status="failed", duplicate=False, error=str(error)
        )


def take_bytes(state: State, collection: str, name: str, data: bytes) -> UploadedOut:
    """Store the bytes, write the rows, send the job. Raises InvalidInput for a file that is not taken."""
    core = state.services.core
    if not name:
        raise InvalidInput("the file has no name: send it with one")
    media_type = sniff(data, name)
    sha256 = hashlib.sha256(data).hexdigest()
    _keep(core.folders, core.catalog.collection_id(collection), sha256, data)
    taken = core.catalog.take(collection, Upload(name, sha256, len(data), media_type))
    if taken.job and not taken.duplicate:
        try:
            state.queue.submit(taken.job, queue=INGEST)
            core.jobs.mark_sent([taken.job])
        except Unavailable:
            pass  # the row is queued: the relay sends it when Redis is back
    status = "queued" if taken.job else "done"
    return UploadedOut(
        id=taken.document,
        filename=name,
        job_id=taken.job,
        status=status,
        duplicate=taken.duplicate,
        error=None,
    )


def clean_name(name: str) -> str:
    """A file's name or relative path, without anything that climbs.

    >>> clean_name("..\\\\..\\\\报告\\\\a.pdf"), clean_name("/etc/passwd")
    ('报告/a.pdf', 'etc/passwd')
    """
    printable = "".join(
        c for c in name.replace("\\", "/") if ord(c) >= 32 and not 0xD800 <= ord(c) < 0xE000
    )
    parts = [part.strip() for part in PurePosixPath(printable).parts]
    return "/".join(part for part in parts if part not in ("", "/", ".", ".."))


def _keep(folders: Folders, collection_id: str, sha256: str, data: bytes) -> None:
    """Write, fsync, rename: a row never names bytes that are not there."""
    target = folders.original(collection_id, sha256)
    if target.exists():
        return
    temporary = folders.uploads / uuid.uuid4().hex
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        temporary.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(target)
        _sync(target.parent)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        raise Unavailable(
            f"the file cannot be stored ({error.strerror}): free some disk space, then try again"
        ) from error


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
