"""Files on their way in: hashed while they are stored, and the collection's before a row names them."""

import contextlib
import hashlib
import os
import threading
import uuid
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sqlmodel import select

from indexer.catalog.catalog import Catalog
from indexer.catalog.taking import Taken, Upload
from indexer.folders import Folders
from indexer.parse.media import sniff_file
from indexer.sql.database import Database
from indexer.sql.tables import VersionRow
from pipeline.errors import Unavailable

_PIECE_BYTES = 2**20
Record = Callable[[Upload], Taken]
_rows = threading.Lock()
"""Held from an original's arrival to its row: a refused row must not take away what another row has just named."""


class Arrivals:
    """Takes files into collections; their jobs wait then."""

    def __init__(self, database: Database, folders: Folders, catalog: Catalog) -> None:
        self._database = database
        self._folders = folders
        self._catalog = catalog

    def take(
        self,
        collection: str,
        name: str,
        file: BinaryIO,
        *,
        source: str | None = None,
        bulk: bool = False,
        record: Record | None = None,
    ) -> Taken:
        """Store a file and write its rows; `source` is the URL that it was fetched from.

        `record` writes the rows instead, together with what else belongs to them.

        Raises InvalidInput for a name that is not taken, NotFound without the collection, Unavailable without room.
        """
        collection_id = self._catalog.collection_id(collection)
        arrived = self._folders.uploads / uuid.uuid4().hex
        try:
            sha256, size = _store(file, arrived)
            upload = Upload(name, sha256, size, sniff_file(arrived, name), source, bulk)
            record = record or partial(self._catalog.take, collection)
            return self._take_row(record, collection_id, arrived, upload)
        except OSError as error:
            raise Unavailable(
                f"the file cannot be stored ({error.strerror}): free some disk space, then try again"
            ) from error
        finally:
            with contextlib.suppress(
                OSError
            ):  # a read-only disk; `app.uploads.sweep` comes at a start
                arrived.unlink(missing_ok=True)

    def _take_row(self, record: Record, collection_id: str, arrived: Path, upload: Upload) -> Taken:
        """The bytes become an original before a row names them; an original whose row is refused goes again."""
        target = self._folders.original(collection_id, upload.sha256)
        with _rows:
            new = not target.exists()
            if new:
                target.parent.mkdir(parents=True, exist_ok=True)
                arrived.replace(target)
                _sync(target.parent)
            try:
                return record(upload)
            except BaseException:
                if new and not self._is_named(collection_id, upload.sha256):
                    _forget(target)
                raise

    def _is_named(self, collection_id: str, sha256: str) -> bool:
        named = select(VersionRow.id).where(
            VersionRow.collection_id == collection_id, VersionRow.sha256 == sha256
        )
        with self._database.read() as session:
            return session.exec(named).first() is not None


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


def _forget(original: Path) -> None:
    """Remove an original, and the folders that were made for it alone."""
    with contextlib.suppress(OSError):
        original.unlink(missing_ok=True)
        original.parent.rmdir()
        original.parent.parent.rmdir()


def _sync(folder: Path) -> None:
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
