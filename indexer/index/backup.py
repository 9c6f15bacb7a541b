"""A backup while everything runs: one state of the rows, and the files that those rows name.

The rows of one reading session say which segments and originals there are. While that session is open the files are
held by hard links (indexer/index/hold.py) and the rows are copied; a file that a merge or a delete took away in between
means that a newer state is taken instead. Then the held files are stored at leisure: nobody waits for a backup. A
segment or original that the vault holds is neither read nor copied again. Words are left out: they follow from the
chunks, and `restore` makes them again.
"""

import json
import sqlite3
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import closing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from sqlalchemy import func, text
from sqlmodel import Session, SQLModel, col, select

from indexer.folders import Folders
from indexer.index.hold import hold, holding_files
from indexer.index.manifest import Backup, Entry, Part
from indexer.index.vault import Vault
from indexer.sql.copying import copy_state, settle
from indexer.sql.database import Database
from indexer.sql.tables import (
    ChunkRow,
    CollectionRow,
    DocumentRow,
    GenerationRow,
    SegmentRow,
    VersionRow,
)
from pipeline.errors import DamagedIndex, InvalidInput, Unavailable

ROWS = "zhinao.db"
"""The path of the rows in a backup: always SQLite, whatever they came from."""
_TRIES = 50
_BREATH = 500
_PAGES = 1024


@dataclass(frozen=True, slots=True)
class Made:
    """A new backup: its manifest, the bytes and files that were new to the vault, and the originals that were gone."""

    backup: Backup
    new_files: int
    new_bytes: int
    missing: tuple[str, ...]

    def told(self) -> dict[str, Any]:
        """As JSON; of the missing files no more than a hundred."""
        new = {"new_files": self.new_files, "new_bytes": self.new_bytes}
        missing = [path for path, _ in zip(self.missing, range(100), strict=False)]
        return {**self.backup.told(), **new, "missing_files": missing}


@dataclass(slots=True)
class _Files:
    """What one state names: by its path in the data folder, where it is read from and its checksum, if known.

    `stored` needs no reading: the vault has it.
    """

    held: dict[str, tuple[Path, str | None]] = field(default_factory=dict)
    stored: dict[str, Part] = field(default_factory=dict)


def back_up(
    database: Database,
    folders: Folders,
    vault: Vault,
    *,
    say: Callable[[int, int], None] = lambda _done, _total: None,
    clock: Callable[[], float] = time.time,
) -> Made:
    """Make a backup; `say` gets bytes done and bytes in all, nothing yet while the rows are copied. It may raise.

    Raises Unavailable when a disk refuses or a file cannot be read, DamagedIndex when a file has changed since it
    was written, Conflict while another backup is written to the vault. Then there is no new backup, and the old ones
    are as they were.
    """
    if folders.data.resolve() in (vault.folder.resolve(), *vault.folder.resolve().parents):
        raise InvalidInput(
            f"{vault.folder} lies in the data folder: a backup belongs on another disk, or at least outside"
        )
    with vault.writing() as partial, holding_files(folders) as held:
        rows = partial / ROWS
        about, files, missing = _take_state(database, folders, vault, held, rows, lambda: say(0, 0))
        total = rows.stat().st_size + sum(path.stat().st_size for path, _ in files.held.values())
        done = 0

        def more(count: int) -> None:
            nonlocal done
            done += count
            say(done, total)

        parts, new_bytes = vault.contents.put_parts(rows, more)
        entries, new_files = [Entry(ROWS, parts)], 0
        for path, (source, told) in files.held.items():
            part, written = vault.contents.put(source, told, more)
            entries.append(Entry(path, (part,)))
            new_files += written > 0
            new_bytes += written
        entries += [Entry(path, (part,)) for path, part in files.stored.items()]
        created = clock()
        backup = Backup(
            _new_id(vault, created),
            created,
            tuple(sorted(entries, key=lambda entry: entry.path)),
            {**about, "missing": len(missing)},
        )
        vault.add(backup)
    return Made(backup, new_files, new_bytes, missing)


def _take_state(
    database: Database,
    folders: Folders,
    vault: Vault,
    held: Path,
    rows: Path,
    breathe: Callable[[], None],
) -> tuple[Mapping[str, Any], _Files, tuple[str, ...]]:
    """Copy the rows of one state to `rows`, and hold the files that they name.

    An original that is gone in two states is really gone; a segment that is gone in two is damage.
    """
    gone: Path | None = None
    missing: set[Path] = set()
    for _ in range(_TRIES):
        with database.read() as session:
            try:
                files = _hold_all(session, folders, vault, held, missing)
            except FileNotFoundError as error:
                path = Path(str(error.filename))
                if path == gone and path.parent.name == "originals":
                    missing.add(path)
                elif path == gone:
                    raise DamagedIndex(
                        f"{path.name} of segment {path.parent.name} is missing: no backup was made; "
                        "restore an older one, or re-index the collection"
                    ) from error
                gone = path
                continue
            about = _about(session)
            _copy_rows(session, rows, breathe)
            return about, files, tuple(str(path.relative_to(folders.data)) for path in missing)
    raise Unavailable(f"files were removed {_TRIES} times while they were held: try again later")


def _hold_all(
    session: Session, folders: Folders, vault: Vault, held: Path, missing: set[Path]
) -> _Files:
    """Raises FileNotFoundError naming the live file that is gone."""
    files = _Files()
    for number, folder in enumerate(_segments(session, folders)):
        _hold_segment(folders, vault, folder, held, files)
        _stay(session, number)
    for number, (path, size) in enumerate(_originals(session, folders)):
        _stay(session, number)
        if path in missing:
            continue
        name = str(path.relative_to(folders.data))
        if vault.contents.holds(part := Part(path.name, size)):
            files.stored[name] = part
        else:
            files.held[name] = hold(folders, path, held), path.name
    return files


def _hold_segment(folders: Folders, vault: Vault, folder: Path, held: Path, files: _Files) -> None:
    manifest = hold(folders, folder / "manifest.json", held)
    try:
        told = json.loads(manifest.read_bytes())["files"]
        parts = {name: Part(str(file["sha256"]), int(file["size"])) for name, file in told.items()}
    except (OSError, ValueError, KeyError, TypeError) as error:
        raise DamagedIndex(
            f"the manifest of segment {folder.name} cannot be read: no backup was made; restore an older one, or "
            "re-index the collection"
        ) from error
    files.held[str((folder / "manifest.json").relative_to(folders.data))] = manifest, None
    for file, part in parts.items():
        name = str((folder / file).relative_to(folders.data))
        if vault.contents.holds(part):
            files.stored[name] = part
        else:
            files.held[name] = hold(folders, folder / file, held), part.sha256


def _segments(session: Session, folders: Folders) -> Iterator[Path]:
    rows = session.execute(
        select(GenerationRow.collection_id, GenerationRow.id, SegmentRow.id)
        .join(SegmentRow, col(SegmentRow.generation_id) == col(GenerationRow.id))
        .where(col(SegmentRow.published).is_(True))
        .order_by(col(SegmentRow.id))
    ).all()
    return (folders.segment(*row) for row in rows)


def _originals(session: Session, folders: Folders) -> Iterator[tuple[Path, int]]:
    rows = session.execute(
        select(VersionRow.collection_id, VersionRow.sha256, func.max(VersionRow.size))
        .group_by(col(VersionRow.collection_id), col(VersionRow.sha256))
        .order_by(func.max(VersionRow.id))
    ).all()
    return ((folders.original(collection, sha256), size) for collection, sha256, size in rows)


def _stay(session: Session, number: int) -> None:
    """PostgreSQL cuts off a session that is idle for a minute."""
    if number % _BREATH == _BREATH - 1:
        session.execute(select(1))


def _about(session: Session) -> dict[str, Any]:
    counted: dict[str, type[SQLModel]] = {
        "collections": CollectionRow,
        "documents": DocumentRow,
        "chunks": ChunkRow,
        "segments": SegmentRow,
    }
    counts = {
        name: session.exec(select(func.count()).select_from(table)).one()
        for name, table in counted.items()
    }
    connection = session.connection()
    revision = connection.execute(text("SELECT version_num FROM alembic_version")).scalar_one()
    return {**counts, "database": connection.dialect.name, "revision": revision}


def _copy_rows(session: Session, path: Path, breathe: Callable[[], None]) -> None:
    """The state that the session reads, as a SQLite file; `breathe` runs between its pieces.

    SQLite's own backup keeps pages in their places, so that the parts of two backups are mostly the same; within a
    reading transaction it copies that transaction's state (sqlite3_backup_step).
    """
    path.unlink(missing_ok=True)
    if session.get_bind().dialect.name == "sqlite":
        source = session.connection().connection.driver_connection
        assert isinstance(source, sqlite3.Connection)
        try:
            with closing(sqlite3.connect(path)) as target:
                source.backup(target, pages=_PAGES, progress=lambda *_: breathe())
        except sqlite3.Error as error:
            raise Unavailable(
                f"the rows cannot be copied to {path.parent} ({error}): free some space there, and check both disks"
            ) from error
        return
    copy = Database(f"sqlite:///{path}")
    try:
        copy_state(session, copy, breathe=breathe)
    finally:
        copy.close()
    settle(path)


def _new_id(vault: Vault, now: float) -> str:
    """The moment, and a number where there is one of this second already."""
    stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime(now))
    taken = {path.stem for path in (vault.folder / "backups").glob(f"{stamp}*.json")}
    names = (stamp if number == 1 else f"{stamp}-{number}" for number in range(1, len(taken) + 2))
    return next(name for name in names if name not in taken)
