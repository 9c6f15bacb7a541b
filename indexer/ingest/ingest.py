"""The write path, top to bottom: bytes, elements, stored text, chunks, vectors, a staged version, published."""

import shutil
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from sqlmodel import select

from indexer.catalog.minhash import Signature, signature
from indexer.catalog.removal import forget_staged
from indexer.catalog.similar import note_similar
from indexer.folders import Folders
from indexer.index.publish import Publisher
from indexer.ingest.embedding import embed_cuts
from indexer.ingest.members import Holder, Members
from indexer.ingest.reuse import embedded_before
from indexer.ingest.stoppable import Stoppable, counting
from indexer.ingest.unfinished import SLOW_S, Unfinished
from indexer.jobs.claims import Claim, FileClaim, owned
from indexer.jobs.jobs import Jobs
from indexer.jobs.work import Say, Superseded, Teller
from indexer.parse.unpack import HOLDING
from indexer.segments.segment import Staged
from indexer.segments.staging import discard_staged, save_staged
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import (
    CollectionRow,
    DocumentRow,
    GenerationRow,
    JobRow,
    TextRow,
    VersionRow,
)
from indexer.text.chunk import Chunking, Cut, cut
from indexer.text.stored import Stored, encode_layout, store
from pipeline.errors import (
    DamagedDocument,
    EmptyDocument,
    IndexMismatch,
    RagError,
    Unavailable,
)
from pipeline.ports import Embedder, Interruptible, Paged, Parser
from pipeline.types import JobStatus, Parsed


@dataclass(frozen=True, slots=True)
class _Work:
    """What a claim is about: a version, and the generation that it goes to, with its embedder and sizes."""

    generation_id: int
    name: str
    original: Path
    staged: Path
    tokens: bool
    status: str
    media_type: str
    embedder: Embedder
    chunking: Chunking


class Ingester:
    """Implements Handler for files: its last transaction ends the job. Every stage may run again: what it writes
    replaces what was there.

    A collection stays with the embedder and the chunking that it is indexed by: `embedder` and those of `also` are
    here, `chunking` is for one that was cut in another way.
    """

    def __init__(
        self,
        database: Database,
        folders: Folders,
        jobs: Jobs,
        parser: Parser,
        embedder: Embedder,
        publisher: Publisher,
        chunking: Chunking,
        members: Members | None = None,
        also: Sequence[Embedder] = (),
    ) -> None:
        self._database = database
        self._folders = folders
        self._jobs = jobs
        self._parser = parser
        self._embedder = embedder
        self._publisher = publisher
        self._chunking = chunking
        self._members = members or Members(database, folders)
        self._also = also
        self._embedding = Stoppable()

    def run(self, claim: Claim, say: Say | None = None) -> None:
        """Raises RagErrors for the caller to record; returns quietly when the job is no longer wanted."""
        assert isinstance(claim, FileClaim)
        try:
            self._run(claim, say or Teller(self._jobs, claim))
        except Superseded:
            self._clear(claim)
        except RagError as error:
            if not error.retryable:
                self._clear(claim)
            raise

    def interrupt(self) -> None:
        """End a reading or embedding that nobody waits for any more; called by the thread that learned it."""
        if isinstance(self._parser, Interruptible):
            self._parser.interrupt()
        self._embedding.stop()

    def _run(self, claim: FileClaim, say: Say) -> None:
        work = self._place(claim)
        if work.status == "staged":  # a worker died between staging and publishing
            self._publisher.publish(claim, on_wait=self._breath(claim))
            return
        parsed = None
        if work.media_type in HOLDING:
            holder = Holder(claim, work.name, work.media_type)
            say("unpack", 0, 0)
            if work.status != "expanded" and self._members.expand(
                holder, _read(work.original), self._breath(claim)
            ):
                return  # the job waits for what was inside, and is run again then
            parsed = self._members.text(holder)
        say("parse", 0, 0)
        parsed = parsed or self._parse(_unfinished(claim, work), work, say)
        while (chunks := self._stage(claim, work, parsed, say)) is None:  # re-indexed meanwhile
            discard_staged(work.staged)
            work = self._place(claim)
        if not self._jobs.put_off(claim, chunks=chunks):
            self._publisher.publish(claim, on_wait=self._breath(claim))

    def _stage(self, claim: FileClaim, work: _Work, parsed: Parsed, say: Say) -> int | None:
        """Cut, embed and stage: how many chunks; None where another generation answers by then."""
        embedder = work.embedder
        stored = store(parsed)
        say("chunk", 0, 0)
        title = parsed.title or telling(work.name)
        count = counting(embedder.count_tokens, lambda: say("chunk", 0, 0))
        cuts = cut(stored, title, count, work.chunking)
        if not cuts:
            raise EmptyDocument(
                "the file has no text outside its running headers: nothing to index"
            )
        rows = self._embed(claim, work, cuts, _unfinished(claim, work), say)
        say("publish", len(cuts), len(cuts))
        save_staged(work.staged, cuts, rows, fingerprint=embedder.fingerprint)
        signed = signature(stored.text, lambda: say("publish", len(cuts), len(cuts)))
        marked = self._mark_staged(claim, work.generation_id, parsed, stored, signed)
        return len(cuts) if marked else None

    def _clear(self, claim: FileClaim) -> None:
        """Remove what was made of a job that ended; another worker's is left to it."""
        with self._database.write() as session:
            row = locked(session, JobRow, claim.job)
            if row is not None and claim.token != row.token and row.status != JobStatus.CANCELLED:
                return
            forget_staged(session, self._folders, claim.collection_id, [claim.version_id])
            there = session.get(CollectionRow, claim.collection_id) is not None
        if not there:  # it came back as a folder
            shutil.rmtree(self._folders.collection(claim.collection_id), ignore_errors=True)

    def _place(self, claim: FileClaim) -> _Work:
        with self._database.read() as session:
            row = session.exec(
                select(VersionRow, DocumentRow.name)
                .join(DocumentRow, DocumentRow.id == VersionRow.document_id)  # type: ignore[arg-type]
                .where(VersionRow.id == claim.version_id)
            ).first()
            collection = session.get(CollectionRow, claim.collection_id)
            if row is None or collection is None:
                raise Superseded
            version, name = row
            generation = session.get_one(GenerationRow, collection.generation_id)
            here = {each.fingerprint: each for each in (self._embedder, *self._also)}
            if generation.fingerprint not in here:
                raise IndexMismatch(
                    f'the collection "{collection.name}" was indexed by another embedder ({generation.fingerprint}): '
                    "start with that one again, re-index the collection, or put the file into a new one"
                )
            return _Work(
                collection.generation_id,
                name,
                self._folders.original(collection.id, version.sha256),
                self._folders.staged(collection.id, collection.generation_id, claim.version_id),
                collection.rerank,
                version.status,
                version.media_type,
                here[generation.fingerprint],
                Chunking.parse(generation.chunking) or self._chunking,
            )

    def _parse(self, unfinished: Unfinished, work: _Work, say: Say) -> Parsed:
        if (before := unfinished.parsed()) is not None:
            return before
        begun, data = time.monotonic(), _read(work.original)
        if isinstance(self._parser, Paged):
            pages = unfinished.pages(partial(say, "parse"))
            parsed = self._parser.parse_pages(data, work.name, pages)
        else:
            parsed = self._parser.parse(data, work.name)
        if time.monotonic() - begun > SLOW_S:
            unfinished.keep_parsed(parsed)
        return parsed

    def _embed(
        self,
        claim: FileClaim,
        work: _Work,
        cuts: Sequence[Cut],
        unfinished: Unfinished,
        say: Say,
    ) -> Staged:
        live = embedded_before(
            self._database,
            self._folders,
            claim.collection_id,
            claim.document,
            work.embedder.fingerprint,
        )
        embedding = embed_cuts(
            work.embedder,
            cuts,
            tokens=work.tokens,
            live=live,
            unfinished=unfinished,
            say=lambda done: say("embed", done, len(cuts)),
        )
        return self._embedding.run(embedding)

    def _mark_staged(
        self,
        claim: FileClaim,
        generation_id: int,
        parsed: Parsed,
        stored: Stored,
        signed: Signature | None,
    ) -> bool:
        layout = encode_layout(stored.placed)
        with self._database.write() as session:
            # Two documents that are read at once must find each other alike, and once.
            collection = locked(session, CollectionRow, claim.collection_id)
            job = owned(session, claim) if collection else None
            version = session.get(VersionRow, claim.version_id)
            if collection is None or job is None or version is None:
                raise Superseded
            if collection.generation_id != generation_id:
                return False
            session.merge(TextRow(version_id=claim.version_id, text=stored.text, layout=layout))
            version.status, version.title, version.pages = "staged", parsed.title, parsed.pages
            session.add(version)
            note_similar(session, version, signed)
            return True

    def _breath(self, claim: Claim) -> Callable[[], None]:
        last = time.monotonic()

        def breathe() -> None:
            nonlocal last
            if time.monotonic() - last > 1.0:
                self._jobs.renew(claim)
                last = time.monotonic()

        return breathe


def _unfinished(claim: FileClaim, work: _Work) -> Unfinished:
    return Unfinished(work.staged, token=claim.token, fingerprint=work.embedder.fingerprint)


def telling(name: str) -> str | None:
    """A file name without its ending, where it says something of the content.

    >>> telling("员工手册.docx"), telling("img_0042.pdf"), telling("a/CX-200 service manual.docx")
    ('员工手册', None, 'CX-200 service manual')
    """
    stem = Path(name).stem.replace("_", " ").strip()
    letters = sum(c.isalpha() for c in stem)
    wide = sum("\u3400" <= c <= "\u9fff" for c in stem)
    return stem if wide >= 2 or (letters >= 5 and letters * 3 >= len(stem) * 2) else None


def _read(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except FileNotFoundError as error:
        raise DamagedDocument("the stored file is gone: upload it again") from error
    except OSError as error:
        raise Unavailable(
            f"the stored file cannot be read ({error.strerror}): check the disk"
        ) from error
