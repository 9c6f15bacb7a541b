"""A folder on the server is kept in step with a collection: new, changed and deleted files."""

import hashlib
import os
import stat
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import BinaryIO

from sqlmodel import Session, col, select

from indexer.catalog.arriving import Arrivals
from indexer.catalog.removal import remove, rename
from indexer.catalog.taking import Taken, Upload, take_row
from indexer.folders import Folders
from indexer.jobs.claims import Claim, owned
from indexer.jobs.work import Result, Say, Superseded
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import CollectionRow, DocumentRow, WatchedRow
from pipeline.errors import InvalidInput

_SETTLED_S = 2.0
"""A file that changed later than this before the look may still be written: the next look takes it."""
_SHOWN = 20
_PIECE = 2**20


@dataclass(frozen=True, slots=True)
class Seen:
    """A file that lies in the folder now."""

    path: Path
    size: int
    changed_ns: int


@dataclass(slots=True)
class Look:
    """What is in a folder: files by their path in it, what was left out and why, and folders that were not readable."""

    files: dict[str, Seen] = field(default_factory=dict)
    skipped: dict[str, str] = field(default_factory=dict)
    unread: list[str] = field(default_factory=list)


class Watching:
    """Implements Handler. Only folders in `roots` are looked at; a file over `most_bytes` is left out."""

    def __init__(
        self,
        database: Database,
        folders: Folders,
        arrivals: Arrivals,
        *,
        roots: Sequence[Path],
        most_bytes: int,
        clock: Callable[[], float] = time.time,
    ) -> None:
        self._database = database
        self._folders = folders
        self._arrivals = arrivals
        self._roots = roots
        self._most_bytes = most_bytes
        self._clock = clock

    def run(self, claim: Claim, say: Say) -> Result:
        """Raises InvalidInput for a folder that may not be watched, is not there, or lost all its files at once."""
        root = allowed_folder(str(claim.payload["folder"]), self._roots)
        key = hashlib.sha256(os.fsencode(root)).hexdigest()
        known = self._known(claim, key)
        say("look", 0, 0)
        look = look_at(root, self._most_bytes, self._clock())
        if known and not look.files and not look.skipped:
            raise InvalidInput(
                f"{root} is empty now and held {len(known)} files before, as when a disk is not mounted: nothing was "
                "deleted. Mount it; or, if the files are meant to go, delete their documents and remove the schedule"
            )
        fresh = {
            name: seen
            for name, seen in look.files.items()
            if name not in known
            or (known[name].size, known[name].changed_ns) != (seen.size, seen.changed_ns)
        }
        gone = [name for name in known if name not in look.files and not _kept(name, look)]
        total = len(fresh) + len(gone)
        taken = 0
        for n, (name, seen) in enumerate(fresh.items()):
            say("take", n, total)
            try:
                taken += self._take(claim, key, root, name, seen, known.get(name))
            except InvalidInput as error:
                look.skipped[name] = str(error)
        say("delete", len(fresh), total)
        deleted = self._forget(claim, key, gone)
        return {
            "taken": taken,
            "deleted": deleted,
            "files": len(look.files),
            "left_out": len(look.skipped),
            "why": dict(list(look.skipped.items())[:_SHOWN]),
            "unreadable_folders": look.unread[:_SHOWN],
        }

    def interrupt(self) -> None:
        """A file takes no time to speak of; the next word ends the job."""

    def _known(self, claim: Claim, key: str) -> dict[str, WatchedRow]:
        with self._database.read() as session:
            if session.get(CollectionRow, claim.collection_id) is None:
                raise Superseded
            rows = session.exec(
                select(WatchedRow).where(
                    WatchedRow.collection_id == claim.collection_id, WatchedRow.folder_key == key
                )
            ).all()
            session.expunge_all()
        return {row.name: row for row in rows}

    def _take(
        self, claim: Claim, key: str, root: Path, name: str, seen: Seen, before: WatchedRow | None
    ) -> bool:
        """Take a file that is new or changed; False where its bytes are what they were."""
        with opened(root, seen.path) as file:
            row = WatchedRow(
                collection_id=claim.collection_id,
                folder_key=key,
                name=name,
                size=seen.size,
                changed_ns=seen.changed_ns,
                sha256=_digest(file),
                document_id=before.document_id if before else "",
            )
            if before is not None and before.sha256 == row.sha256:
                with self._database.write() as session:
                    self._held(session, claim)
                    session.merge(row)
                return False
            file.seek(0)
            record = partial(self._record, claim, row)
            self._arrivals.take(self._name(claim), name, file, bulk=True, record=record)
            return True

    def _record(self, claim: Claim, row: WatchedRow, upload: Upload) -> Taken:
        """The rows of a file, and the one that knows it again: a look that is interrupted leaves both or neither.

        Somebody else's document of the same bytes stays theirs.
        """
        with self._database.write() as session:
            collection = self._held(session, claim)
            taken, _ = take_row(session, self._folders, collection, upload)
            before = session.get(WatchedRow, (row.collection_id, row.folder_key, row.name))
            replaced = before.document_id if before is not None else ""
            theirs = taken.duplicate and not _rows_of(session, collection.id, taken.document)
            row.document_id, row.sha256 = "" if theirs else taken.document, upload.sha256
            session.merge(row)
            session.flush()
            if replaced not in ("", row.document_id):
                self._drop(session, collection, {replaced})
            return taken

    def _held(self, session: Session, claim: Claim) -> CollectionRow:
        """The locked collection; the job is locked, too. Raises Superseded."""
        collection = locked(session, CollectionRow, claim.collection_id)
        if collection is None or owned(session, claim) is None:
            raise Superseded
        return collection

    def _name(self, claim: Claim) -> str:
        with self._database.read() as session:
            collection = session.get(CollectionRow, claim.collection_id)
            if collection is None:
                raise Superseded
            return collection.name

    def _forget(self, claim: Claim, key: str, names: Sequence[str]) -> int:
        """The documents of files that are gone, gone with them; returns how many."""
        count = 0
        for start in range(0, len(names), 50):
            with self._database.write() as session:
                collection = self._held(session, claim)
                documents: set[str] = set()
                for name in names[start : start + 50]:
                    row = session.get(WatchedRow, (claim.collection_id, key, name))
                    if row is not None:
                        documents.add(row.document_id)
                        session.delete(row)
                session.flush()
                count += self._drop(session, collection, documents - {""})
        return count

    def _drop(self, session: Session, collection: CollectionRow, documents: set[str]) -> int:
        """Delete documents that no watched file is any more; one that another file is takes that one's name."""
        going: list[str] = []
        for document_id in documents:
            document = session.get(DocumentRow, document_id)
            if document is None or document.collection_id != collection.id:
                continue
            others = _rows_of(session, collection.id, document_id)
            if not others:
                going.append(document_id)
            elif document.name not in others:
                rename(session, document, others[0])
        if going:
            remove(session, self._folders, collection, going)
        return len(going)


def allowed_folder(folder: str, roots: Sequence[Path]) -> Path:
    """The folder with all links followed. Raises InvalidInput where it may not be watched, or is not there."""
    if not roots:
        raise InvalidInput(
            "no folder may be watched: set ZHINAO_WATCH_ROOTS to the directories that may, then start again"
        )
    path = Path(folder)
    if not path.is_absolute():
        raise InvalidInput(f"{folder} is no full path: name the folder from / on")
    real = Path(os.path.realpath(path))
    if not any(real.is_relative_to(os.path.realpath(root)) for root in roots):
        raise InvalidInput(f"{folder} lies in none of the directories of ZHINAO_WATCH_ROOTS")
    if not real.is_dir():
        raise InvalidInput(
            f"{folder} is not there, or no folder: nothing was deleted. Mount its disk, or remove the schedule"
        )
    return real


def look_at(root: Path, most_bytes: int, now: float) -> Look:
    """Every file below a folder. Hidden ones are passed over, links are not followed."""
    look = Look()

    def unreadable(error: OSError) -> None:
        look.unread.append(os.path.relpath(error.filename, root))

    for place, folders, names in os.walk(root, onerror=unreadable):
        folders[:] = sorted(name for name in folders if not name.startswith("."))
        for name in sorted(names):
            if name.startswith("."):
                continue
            path = Path(place) / name
            shown = path.relative_to(root).as_posix()
            try:
                found = path.lstat()
            except OSError as error:
                look.skipped[shown] = f"it cannot be read ({error.strerror})"
                continue
            if not stat.S_ISREG(found.st_mode):
                look.skipped[shown] = "it is a link, or no file: links are not followed"
            elif found.st_size > most_bytes:
                look.skipped[shown] = f"it is larger than {most_bytes} bytes (ZHINAO_MAX_UPLOAD_MB)"
            elif now - _SETTLED_S < found.st_mtime <= now:
                look.skipped[shown] = "it changed a moment ago: the next look takes it"
            else:
                look.files[shown] = Seen(path, found.st_size, found.st_mtime_ns)
    return look


@contextmanager
def opened(root: Path, path: Path) -> Iterator[BinaryIO]:
    """A file below the root, whatever somebody makes of its path meanwhile. Raises InvalidInput."""
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    except OSError as error:
        raise InvalidInput(f"it cannot be read ({error.strerror})") from error
    with os.fdopen(descriptor, "rb") as file:
        real = Path(os.path.realpath(f"/proc/self/fd/{descriptor}"))
        if not real.is_relative_to(root) or not stat.S_ISREG(os.fstat(descriptor).st_mode):
            raise InvalidInput("it is a link out of the folder: links are not followed")
        yield file


def _kept(name: str, look: Look) -> bool:
    """Whether a file that was not found may be there all the same."""
    return name in look.skipped or any(
        folder == "." or name.startswith(f"{folder}/") for folder in look.unread
    )


def _rows_of(session: Session, collection_id: str, document: str) -> list[str]:
    return list(
        session.exec(
            select(WatchedRow.name)
            .where(WatchedRow.collection_id == collection_id, WatchedRow.document_id == document)
            .order_by(col(WatchedRow.name))
        ).all()
    )


def _digest(file: BinaryIO) -> str:
    digest = hashlib.sha256()
    while piece := file.read(_PIECE):
        digest.update(piece)
    return digest.hexdigest()
