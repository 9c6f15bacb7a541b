"""Files on their way in: bounded, hashed while they are stored, and the collection's before a row names them."""

import asyncio
import contextlib
import hashlib
import io
import os
import shutil
import threading
import uuid
from pathlib import Path
from typing import BinaryIO

from sqlmodel import select
from starlette.datastructures import UploadFile
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from app.errors import make_problem, respond
from app.queue import INGEST
from app.schemas import UploadedOut
from app.state import State
from indexer.catalog.taking import MOST_NAME, Taken, Upload
from indexer.folders import Folders
from indexer.parse.media import sniff_file
from indexer.parse.names import clean_name
from indexer.sql.tables import VersionRow
from pipeline.errors import InvalidInput, Unavailable

_PIECE_BYTES = 2**20
_FORM_BYTES = 2**20
_rows = threading.Lock()
"""Held from an original's arrival to its row: a refused row must not take away what another row has just named."""


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
    collection_id = core.catalog.collection_id(collection)
    arrived = core.folders.uploads / uuid.uuid4().hex
    try:
        sha256, size = _store(file, arrived)
        upload = Upload(name, sha256, size, sniff_file(arrived, name), source, bulk)
        taken = _take_row(state, collection, collection_id, arrived, upload)
    except OSError as error:
        raise Unavailable(
            f"the file cannot be stored ({error.strerror}): free some disk space, then try again"
        ) from error
    finally:
        arrived.unlink(missing_ok=True)
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


def _store(source: BinaryIO, target: Path) -> tuple[str, int]:
    """Copy a file piece by piece, to the disk itself. Returns its SHA-256 and its size in bytes."""
    digest = hashlib.sha256()
    size = 0
    target.parent.mkdir(parents=True, exist_ok=True)
    with target.open("xb") as file:
        while piece := source.read(_PIECE_BYTES):
            digest.update(piece)
            file.write(piece)
            size += len(piece)
        file.flush()
        os.fsync(file.fileno())
    return digest.hexdigest(), size


def _take_row(
    state: State, collection: str, collection_id: str, arrived: Path, upload: Upload
) -> Taken:
    """The bytes become an original before a row names them; an original whose row is refused goes again."""
    core = state.services.core
    target = core.folders.original(collection_id, upload.sha256)
    with _rows:
        new = not target.exists()
        if new:
            target.parent.mkdir(parents=True, exist_ok=True)
            arrived.replace(target)
            _sync(target.parent)
        try:
            return core.catalog.take(collection, upload)
        except BaseException:
            if new and not _is_named(state, collection_id, upload.sha256):
                _forget(target)
            raise


def _is_named(state: State, collection_id: str, sha256: str) -> bool:
    named = select(VersionRow.id).where(
        VersionRow.collection_id == collection_id, VersionRow.sha256 == sha256
    )
    with state.services.core.database.read() as session:
        return session.exec(named).first() is not None


def _forget(original: Path) -> None:
    """Remove an original, and the folders that were made for it alone."""
    original.unlink(missing_ok=True)
    with contextlib.suppress(OSError):
        original.parent.rmdir()
        original.parent.parent.rmdir()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
