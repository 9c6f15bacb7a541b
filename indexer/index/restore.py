"""A backup back into a data folder: built beside, every checksum compared, and only then put in its place."""

import shutil
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from alembic.util.exc import CommandError
from sqlalchemy import delete, update
from sqlmodel import col, select

from indexer.folders import Folders
from indexer.index.backup import ROWS
from indexer.index.commit import live_keys
from indexer.index.manifest import Backup
from indexer.index.vault import Vault
from indexer.index.words import make_words
from indexer.segments.segment import Segment
from indexer.sql.copying import copy_rows, settle
from indexer.sql.database import Database
from indexer.sql.tables import (
    GenerationRow,
    JobRow,
    LeaseRow,
    PlaceRow,
    SegmentRow,
    VersionRow,
    WordRow,
    known,
)
from pipeline.errors import Conflict, DamagedIndex, InvalidInput, Unavailable
from pipeline.types import JobKind, JobStatus

_SQLITE = ("", "-wal", "-shm")
Say = Callable[[str, int, int], None]
"""Hears how far it is: the stage (files, in bytes; words, in chunks), what is done, and all there is."""


@dataclass(frozen=True, slots=True)
class Restored:
    """What was put back: the backup, files and bytes, and chunks whose words were made again."""

    backup: Backup
    files: int
    bytes: int
    chunks: int


def restore(
    vault: Vault,
    database_url: str,
    folders: Folders,
    backup_id: str | None = None,
    *,
    force: bool = False,
    say: Say = lambda _stage, _done, _total: None,
) -> Restored:
    """Put a backup back, the newest where none is named. Nothing may serve from the folder meanwhile.

    `database_url` is where the rows go: SQLite in the folder, or another database, which must be empty. `force`
    replaces what is there. Raises Conflict when something is there, DamagedIndex naming the file that is not as it
    was, Unavailable when a disk or the database refuses: then nothing has changed.
    """
    beside = folders.data / "restoring"
    with vault.reading():
        backup = vault.get(backup_id)
        if not force:
            _refuse_over(folders, database_url)
        try:
            folders.data.mkdir(parents=True, exist_ok=True)
            shutil.rmtree(beside, ignore_errors=True)
            _extract(vault, backup, beside, say)
            chunks = _ready(Folders(beside), say)
            _put_in_place(folders, beside, database_url)
        except OSError as error:
            raise Unavailable(
                f"the backup cannot be written to {folders.data} ({error.strerror}): free some space there, then "
                "start again"
            ) from error
        finally:
            shutil.rmtree(beside, ignore_errors=True)
    return Restored(backup, len(backup.files), backup.size, chunks)


def _refuse_over(folders: Folders, database_url: str) -> None:
    there = [path for path in (folders.database, folders.data / "collections") if path.exists()]
    if there:
        raise Conflict(
            f"{there[0]} is there already: restore into an empty folder with --data, or replace everything with --force"
        )
    if database_url != _own(folders):
        database = Database(database_url)
        try:
            database.migrate()
            with database.read() as session:
                if session.exec(select(GenerationRow.id).limit(1)).first() is not None:
                    raise Conflict(
                        "the database of DATABASE_URL holds collections already: name an empty one, or replace "
                        "everything with --force"
                    )
        finally:
            database.close()


def _own(folders: Folders) -> str:
    """The URL of the data folder's own SQLite file."""
    return f"sqlite:///{folders.database}"


def _extract(vault: Vault, backup: Backup, beside: Path, say: Say) -> None:
    done = 0

    def more(count: int) -> None:
        nonlocal done
        done += count
        say("files", done, backup.size)

    for entry in backup.files:
        vault.extract(entry, beside / entry.path, more)


def _ready(folders: Folders, say: Say) -> int:
    """Make of the files what serves: newest revision, no owners, words. Returns the number of chunks.

    Raises DamagedIndex when a live chunk has no vector.
    """
    database = Database(f"sqlite:///{folders.database}")
    try:
        with _known_revision():
            database.migrate()
        _release(database)
        with database.read() as session:
            generations = session.exec(select(GenerationRow)).all()
        count = sum(
            _ready_generation(database, folders, generation, say) for generation in generations
        )
    finally:
        database.close()
    settle(folders.database)
    return count


@contextmanager
def _known_revision() -> Iterator[None]:
    try:
        yield
    except CommandError as error:
        raise InvalidInput(
            "a newer version of this program made the backup: update this one, then restore"
        ) from error


def _release(database: Database) -> None:
    """Nobody holds a lease, what ran is run again, and what was searched in Milvus is searched here."""
    with database.write() as session:
        for table in (LeaseRow, PlaceRow, WordRow):
            session.execute(delete(table))
        opened = col(JobRow.status).in_((JobStatus.QUEUED.value, JobStatus.RUNNING.value))
        session.execute(delete(JobRow).where(col(JobRow.kind) == JobKind.BACKUP.value, opened))
        session.execute(
            update(JobRow)
            .where(
                col(JobRow.status) == JobStatus.RUNNING.value, col(JobRow.lease_until).is_not(None)
            )
            .values(status=JobStatus.QUEUED.value, lease_until=None, token=JobRow.token + 1)
        )
        session.execute(
            update(JobRow)
            .where(col(JobRow.status) == JobStatus.QUEUED.value)
            .values(sent=None, not_before=None, updated=time.time())
        )
        session.execute(  # what was staged is in no backup
            update(VersionRow).where(col(VersionRow.status) == "staged").values(status="pending")
        )


def _ready_generation(
    database: Database, folders: Folders, generation: GenerationRow, say: Say
) -> int:
    place = (generation.collection_id, known(generation.id))
    with database.read() as session:
        live = live_keys(session, place[1])
        ids = session.exec(
            select(SegmentRow.id).where(
                SegmentRow.generation_id == place[1], col(SegmentRow.published).is_(True)
            )
        ).all()
    held = 0
    for segment_id in map(known, ids):
        segment = Segment.open(
            folders.segment(*place, segment_id), fingerprint=generation.fingerprint
        )
        held += len(segment.rows_of(live))
    if held != len(live):
        raise DamagedIndex(
            f"the backup holds {held} vectors for {len(live)} passages: use another one"
        )
    made = 0
    for count in make_words(database, folders, *place):
        made += count
        say("words", made, len(live))
    return len(live)


def _put_in_place(folders: Folders, beside: Path, database_url: str) -> None:
    """Old files out of the way, new ones in, then the rows of another database; undone where one of it fails.

    Who kills it in between restores again.
    """
    old = folders.data / "replaced"
    shutil.rmtree(old, ignore_errors=True)
    old.mkdir()
    own = database_url == _own(folders)
    there = [folders.data / name for name in ("collections", *(f"{ROWS}{x}" for x in _SQLITE))]
    new = [beside / "collections", *([beside / ROWS] if own else [])]
    try:
        for path in filter(Path.exists, there):
            path.rename(old / path.name)
        for path in filter(Path.exists, new):
            path.rename(folders.data / path.name)
        if not own:
            _copy(beside / ROWS, database_url)
    except BaseException:
        for path in filter(Path.exists, there):
            path.rename(beside / path.name)
        for path in list(old.iterdir()):
            path.rename(folders.data / path.name)
        raise
    finally:
        shutil.rmtree(old, ignore_errors=True)


def _copy(rows: Path, database_url: str) -> None:
    source, target = Database(f"sqlite:///{rows}"), Database(database_url)
    try:
        copy_rows(source, target, replace=True)
    finally:
        source.close()
        target.close()
