"""Files inside archives and mails become documents of their own: taken out, waited for, told about.

An archive's job runs twice. First it takes the files out and gives each its rows; then the job waits without a worker
(indexer/jobs/waiting.py). When all members have ended it runs again and writes the archive's own text.
"""

import os
import tempfile
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sqlalchemy import delete, func
from sqlmodel import Session, col, select

from indexer.catalog.outcomes import open_members, outcomes
from indexer.catalog.precedence import MANY
from indexer.catalog.removal import remove, rename
from indexer.catalog.taking import MOST_NAME, Parent, Upload, take_row
from indexer.folders import Folders
from indexer.jobs.claims import FileClaim, mark_done, owned
from indexer.jobs.waiting import WAITING
from indexer.jobs.work import Superseded
from indexer.parse.archives import Limits
from indexer.parse.media import ARCHIVES
from indexer.parse.unpack import Member, listing, unpack
from indexer.segments.staged import fsync_folder
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import CollectionRow, DocumentRow, JobRow, MemberRow, VersionRow, known
from pipeline.errors import DamagedDocument, EmptyDocument, TooLarge, Unavailable
from pipeline.types import Parsed

Unpack = Callable[[bytes, str, str, Path, Limits], tuple[Member, ...]]
MOST_DEPTH = 3
"""How many archives may lie in each other."""
_AT_ONCE = 20
_TOO_DEEP = (
    f"more than {MOST_DEPTH} archives or mails lie in each other: unpack the outer ones first"
)


@dataclass(frozen=True, slots=True)
class Holder:
    """An archive or a mail whose job is claimed."""

    claim: FileClaim
    name: str
    media_type: str


@dataclass(frozen=True, slots=True)
class _Opened:
    """An archive, the paths of all that is in it, and the documents that it lies in, itself one of them."""

    holder: Holder
    paths: frozenset[str]
    around: frozenset[str] = frozenset()


class Members:
    """What comes out of archives and mails. `unpack` may run somewhere safer than here."""

    def __init__(self, database: Database, folders: Folders, unpack: Unpack = unpack) -> None:
        self._database = database
        self._folders = folders
        self._unpack = unpack

    def expand(self, holder: Holder, data: bytes, breathe: Callable[[], None]) -> bool:
        """Give every file inside its rows. True when the job waits for them now: this worker is done with it.

        Runs again without doubling anything. Raises DamagedDocument, TooLarge or EmptyDocument where nothing inside
        can be read, Unavailable where the disk refuses, Superseded when the claim no longer holds.
        """
        depth, limits = self._room(holder.claim)
        if depth >= MOST_DEPTH and holder.media_type in ARCHIVES:
            raise TooLarge(_TOO_DEEP)
        try:
            self._folders.uploads.mkdir(parents=True, exist_ok=True)
            with tempfile.TemporaryDirectory(dir=self._folders.uploads) as folder:
                into = Path(folder)
                found = self._unpack(data, holder.name, holder.media_type, into, limits)
                members = [_takeable(member, holder.name, depth) for member in found]
                if not members and holder.media_type in ARCHIVES:
                    raise EmptyDocument("there are no files inside: nothing to read")
                opened = _Opened(holder, frozenset(_path(holder, member) for member in members))
                for start in range(0, len(members), _AT_ONCE):
                    breathe()
                    self._take(opened, start, members[start : start + _AT_ONCE], into)
        except OSError as error:
            raise Unavailable(
                f"the files inside cannot be stored ({error.strerror}): free some disk space"
            ) from error
        return self._wait(holder.claim, len(members))

    def text(self, holder: Holder) -> Parsed | None:
        """The text of an archive whose members have ended: what it held and what is not read. None for a mail.

        Members that this version no longer holds are gone afterwards. Raises DamagedDocument when none could be read,
        Superseded when the claim no longer holds.
        """
        self._drop_what_is_gone(holder.claim)
        if holder.media_type not in ARCHIVES:
            return None
        with self._database.read() as session:
            told = outcomes(session, holder.claim.version_id, holder.name)
        if all(one.problem for one in told):
            first = next((f"{one.name}: {one.problem}" for one in told), "")
            raise DamagedDocument(f"none of the {len(told)} files inside could be read. {first}")
        return listing([(one.shown, one.problem) for one in told])

    def _room(self, claim: FileClaim) -> tuple[int, Limits]:
        """How deep an archive lies, and what it may hold of what its outermost one may hold in all.

        Raises TooLarge when that one has spent it.
        """
        limits = Limits()
        with self._database.read() as session:
            depth, job = 0, session.get(JobRow, claim.job)
            while job is not None and job.parent_id is not None and depth < MOST_DEPTH:
                depth, job = depth + 1, session.get(JobRow, job.parent_id)
            if job is None or depth == 0:
                return depth, limits
            count, size = 0, 0
            below = select(JobRow.id).where(JobRow.parent_id == job.id)
            for _ in range(MOST_DEPTH):
                found = session.execute(
                    select(func.count(), func.sum(VersionRow.size))
                    .select_from(JobRow)
                    .join(VersionRow, col(VersionRow.id) == col(JobRow.version_id))
                    .where(col(JobRow.id).in_(below), col(JobRow.parent_id) != claim.job)
                ).one()
                count, size = count + int(found[0]), size + int(found[1] or 0)
                below = select(JobRow.id).where(col(JobRow.parent_id).in_(below))
        left = replace(limits, members=limits.members - count, unpacked=limits.unpacked - size)
        if left.members <= 0 or left.unpacked <= 0:
            raise TooLarge(
                f"the archive around it holds over {limits.members:,} files or {limits.unpacked / 1e9:,.0f} GB: "
                "unpack it and upload the parts"
            )
        return depth, left

    def _take(self, opened: _Opened, start: int, members: Sequence[Member], into: Path) -> None:
        """Rows of some members. Their bytes are originals before a row names them; refused, they go again."""
        collection_id = opened.holder.claim.collection_id
        new: list[str] = []
        for member in members:
            target = self._folders.original(collection_id, member.sha256)
            if member.file and not target.exists():
                target.parent.mkdir(parents=True, exist_ok=True)
                with (into / member.file).open("rb") as file:
                    os.fsync(file.fileno())
                (into / member.file).replace(target)
                new.append(member.sha256)
        if new:
            fsync_folder(self._folders.original(collection_id, new[0]).parent)
        taken = False
        try:
            taken = self._rows(opened, start, members)
        finally:
            if not taken:
                self._forget_unnamed(collection_id, new)
        if not taken:
            raise Superseded

    def _rows(self, opened: _Opened, start: int, members: Sequence[Member]) -> bool:
        """False when a newer version has come: only that one's members are taken."""
        claim = opened.holder.claim
        with self._database.write() as session:
            collection, version, job = self._held(session, claim)
            if _newest(session, claim.document) != version.number:
                _supersede(session, version, job)
                return False
            opened = replace(opened, around=_around(session, claim.document))
            for position, member in enumerate(members, start):
                row = MemberRow(version_id=known(version.id), position=position, name=member.name)
                row.error = member.problem
                if member.file:
                    self._take_one(session, collection, opened, member, row)
                session.merge(row)
        return True

    def _take_one(
        self,
        session: Session,
        collection: CollectionRow,
        opened: _Opened,
        member: Member,
        row: MemberRow,
    ) -> None:
        claim, path = opened.holder.claim, _path(opened.holder, member)
        bulk = len(opened.paths) > MANY
        upload = Upload(path, member.sha256, member.size, member.media_type, bulk=bulk)
        parent = Parent(claim.document, claim.job)
        taken, version = take_row(session, self._folders, collection, upload, parent)
        if taken.document in opened.around:
            row.error = "it is the same as an archive that it lies in"
            return
        row.document_id, row.member_version_id = taken.document, version.id
        if taken.duplicate:
            document = session.get_one(DocumentRow, taken.document)
            if document.parent_id == claim.document and document.name not in opened.paths:
                rename(session, document, path)  # moved inside the archive

    def _held(self, session: Session, claim: FileClaim) -> tuple[CollectionRow, VersionRow, JobRow]:
        """The locked collection and job, and the version. Raises Superseded."""
        collection = locked(session, CollectionRow, claim.collection_id)
        job = owned(session, claim) if collection else None
        version = session.get(VersionRow, claim.version_id)
        if collection is None or job is None or version is None:
            raise Superseded
        return collection, version, job

    def _forget_unnamed(self, collection_id: str, digests: Sequence[str]) -> None:
        with self._database.read() as session:
            named = session.exec(
                select(VersionRow.sha256).where(
                    VersionRow.collection_id == collection_id, col(VersionRow.sha256).in_(digests)
                )
            ).all()
        for sha256 in set(digests) - set(named):
            self._folders.original(collection_id, sha256).unlink(missing_ok=True)

    def _wait(self, claim: FileClaim, count: int) -> bool:
        """Let go of the job until its members have ended; False when there is nothing to wait for."""
        with self._database.write() as session:
            job = owned(session, claim)
            version = session.get(VersionRow, claim.version_id)
            if job is None or version is None:
                raise Superseded
            session.execute(
                delete(MemberRow).where(
                    col(MemberRow.version_id) == claim.version_id, col(MemberRow.position) >= count
                )
            )
            version.status = "expanded"
            session.add(version)
            left = open_members(session, claim.version_id, claim.document)
            if left == 0:
                return False
            job.stage, job.done, job.total = WAITING, count - left, count
            job.lease_until, job.updated, job.attempts = None, time.time(), 0
            job.token += 1  # this worker's heartbeat must not take it back
            session.add(job)
            return True

    def _drop_what_is_gone(self, claim: FileClaim) -> None:
        with self._database.write() as session:
            collection, version, _ = self._held(session, claim)
            if _newest(session, claim.document) != version.number:
                return
            held = select(MemberRow.document_id).where(
                MemberRow.version_id == claim.version_id, col(MemberRow.document_id).is_not(None)
            )
            gone = session.exec(
                select(DocumentRow.id).where(
                    DocumentRow.parent_id == claim.document, col(DocumentRow.id).not_in(held)
                )
            ).all()
            if gone:
                remove(session, self._folders, collection, gone)


def _takeable(member: Member, holder: str, depth: int) -> Member:
    """The member, or why it cannot be a document."""
    if member.file and depth >= MOST_DEPTH:
        return Member(member.name, _TOO_DEEP)
    if member.file and len(f"{holder}/{member.name}") > MOST_NAME:
        return Member(member.name[:MOST_NAME], f"its path has more than {MOST_NAME} characters")
    return member


def _path(holder: Holder, member: Member) -> str:
    return f"{holder.name}/{member.name}"


def _around(session: Session, document_id: str) -> frozenset[str]:
    """A document and all that it lies in."""
    found: set[str] = set()
    document = session.get(DocumentRow, document_id)
    while document is not None and document.id not in found:
        found.add(document.id)
        document = session.get(DocumentRow, document.parent_id) if document.parent_id else None
    return frozenset(found)


def _supersede(session: Session, version: VersionRow, job: JobRow) -> None:
    """End the job of a version that was overtaken before it was read."""
    version.status = "superseded"
    mark_done(job, time.time())
    session.add_all([version, job])


def _newest(session: Session, document_id: str) -> int:
    number = session.exec(
        select(func.max(VersionRow.number)).where(
            VersionRow.document_id == document_id, VersionRow.status != "failed"
        )
    ).one()
    return int(number or 0)
