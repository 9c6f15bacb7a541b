"""Rows and files that belong to nothing: what a crash left, and what a delete must not leave."""

import shutil
import time
from collections.abc import Iterable, Iterator
from functools import partial
from pathlib import Path

from sqlalchemy import ColumnElement, and_, delete, func
from sqlmodel import SQLModel, col, select

from indexer.folders import Folders
from indexer.index.findings import Finding
from indexer.sql.database import Database
from indexer.sql.tables import (
    BandRow,
    ChunkRow,
    CollectionRow,
    DocumentRow,
    ExpectedRow,
    GenerationRow,
    JobRow,
    MemberRow,
    QuestionRow,
    RecentQueryRow,
    ReservationRow,
    SegmentRow,
    SignatureRow,
    SimilarRow,
    SpanRow,
    TextRow,
    TombstoneRow,
    VersionRow,
    WatchedRow,
    known,
)

_WAITING = ("pending", "expanded", "staged")


def leftover_rows(database: Database) -> Iterator[Finding]:
    """Rows whose owner is gone; mending deletes them."""
    for table, which in _orphans():
        with database.read() as session:
            count = session.exec(select(func.count()).select_from(table).where(which)).one()
        if count:
            says = f"{count} rows of the table {table.__tablename__} belong to nothing"
            yield Finding("catalog", "", says, partial(_delete, database, table, which))


def _delete(database: Database, table: type[SQLModel], which: ColumnElement[bool]) -> str:
    with database.write() as session:
        session.execute(delete(table).where(which))
    return "deleted"


def _orphans() -> Iterator[tuple[type[SQLModel], ColumnElement[bool]]]:
    versions, documents = select(VersionRow.id), select(DocumentRow.id)
    generations = select(GenerationRow.id)
    for of_version in (MemberRow, TextRow, SignatureRow, BandRow, SimilarRow, ChunkRow):
        yield of_version, col(of_version.version_id).not_in(versions)
    yield SimilarRow, col(SimilarRow.other_id).not_in(documents)
    for of_document in (ChunkRow, VersionRow):
        yield of_document, col(of_document.document_id).not_in(documents)
    yield (
        JobRow,
        and_(col(JobRow.document_id).is_not(None), col(JobRow.document_id).not_in(documents)),
    )
    for of_generation in (ChunkRow, TombstoneRow, SegmentRow, SpanRow, ReservationRow):
        yield of_generation, col(of_generation.generation_id).not_in(generations)
    published = select(SegmentRow.id).where(col(SegmentRow.published).is_(True))
    yield SpanRow, col(SpanRow.segment_id).not_in(published)
    yield ExpectedRow, col(ExpectedRow.document_id).not_in(documents)
    yield ExpectedRow, col(ExpectedRow.question_id).not_in(select(QuestionRow.id))
    yield QuestionRow, col(QuestionRow.id).not_in(select(ExpectedRow.question_id))
    of_collections = (
        DocumentRow,
        VersionRow,
        GenerationRow,
        QuestionRow,
        RecentQueryRow,
        WatchedRow,
    )
    for of_collection in of_collections:
        yield of_collection, col(of_collection.collection_id).not_in(select(CollectionRow.id))


def leftover_files(database: Database, folders: Folders, *, settled_s: float) -> Iterator[Finding]:
    """Files of the data folder that no row names and that nobody wrote to for `settled_s`; mending removes them."""
    before = time.time() - settled_s
    for collection, path in _unnamed(database, folders):
        if _touched(path) <= before:
            says = f"{path.relative_to(folders.data)} belongs to nothing"
            yield Finding("files", collection, says, partial(_remove, path))


def _unnamed(database: Database, folders: Folders) -> Iterator[tuple[str, Path]]:
    # The files are listed before the rows are read: a row comes after its file, and goes before it.
    listed = {path: _listing(path) for path in _children(folders.data / "collections")}
    uploads = _children(folders.uploads)
    with database.read() as session:
        names = {row.id: row.name for row in session.exec(select(CollectionRow)).all()}
        generations = session.execute(select(GenerationRow.id, GenerationRow.collection_id)).all()
        segments = {str(each) for each in session.exec(select(SegmentRow.id)).all()}
        waiting = {
            str(known(each))
            for each in session.exec(
                select(VersionRow.id).where(col(VersionRow.status).in_(_WAITING))
            ).all()
        }
        originals = set(
            session.execute(select(VersionRow.collection_id, VersionRow.sha256).distinct()).all()
        )
    yield from (("", path) for path in uploads)
    for folder, inside in listed.items():
        name = names.get(folder.name)
        if name is None:
            yield "", folder
            continue
        mine = {str(number) for number, owner in generations if owner == folder.name}
        for path in inside:
            kind, parts = path.parent.name, path.relative_to(folder).parts
            if len(parts) == 1:
                known_here = path.name in mine or path.name == "originals"
            elif parts[0] not in mine and parts[0] != "originals":
                continue  # its folder is told already
            elif kind == "originals":
                known_here = (folder.name, path.name) in originals
            elif kind == "segments":
                known_here = path.name in segments
            elif kind == "staged":
                known_here = path.name.lstrip(".").split(".")[0] in waiting
            else:
                known_here = path.name in ("segments", "staged", "words")
            if not known_here:
                yield name, path


def _listing(folder: Path) -> list[Path]:
    """What lies in a collection's folder, as deep as names say something."""
    found: list[Path] = []
    for path in _children(folder):
        found.append(path)
        inner = _children(path)
        found.extend(inner)
        for part in inner:
            if part.name in ("segments", "staged"):
                found.extend(_children(part))
    return found


def _children(folder: Path) -> list[Path]:
    try:
        return sorted(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []


def _touched(path: Path) -> float:
    """When the file, or the newest one in the folder, was written; never where it is gone."""
    try:
        inside: Iterable[Path] = path.rglob("*") if path.is_dir() else ()
        return max(part.lstat().st_mtime for part in (path, *inside))
    except OSError:
        return float("inf")


def _remove(path: Path) -> str:
    if path.is_dir():
        shutil.rmtree(path, ignore_errors=True)
    else:
        path.unlink(missing_ok=True)
    return "removed"
