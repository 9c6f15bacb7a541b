"""Re-indexing while everything runs: a second generation is filled from the stored texts, compared, and switched to.

Searches and uploads go on in the live generation. What goes live meanwhile is filled in before the switch, which
happens in a transaction that sees that nothing is missing.
"""

import time
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path

from indexer.folders import Folders
from indexer.index.commit import Target
from indexer.index.generations import Generation, Generations, State
from indexer.index.milvus_leg import MilvusLeg, MilvusReader
from indexer.index.publish import Publisher
from indexer.ingest.asking import check_alone
from indexer.ingest.comparing import Comparing
from indexer.ingest.embedding import embed_cuts
from indexer.ingest.gate import AGREEMENT, MARGIN, Figures
from indexer.ingest.ingest import telling
from indexer.ingest.reuse import embedded_before
from indexer.ingest.stoppable import Stoppable, counting
from indexer.ingest.unfinished import Unfinished
from indexer.jobs.claims import Claim
from indexer.jobs.jobs import Jobs
from indexer.jobs.lease import holding
from indexer.jobs.work import Result, Say, Superseded
from indexer.segments.staging import StagedVersion, discard_staged
from indexer.sql.database import Database
from indexer.sql.tables import CollectionRow, DocumentRow, TextRow, VersionRow
from indexer.text.chunk import Chunking, cut
from indexer.text.stored import decode_layout
from pipeline.errors import Conflict, IndexMismatch
from pipeline.retrieve import Space
from pipeline.types import DocumentId

_CHUNKS_AT_ONCE = 500
"""Chunks of one transaction: what a kill can cost, but for a version that has more."""
_VERSIONS_AT_ONCE = 100
_POLL_S = 0.1


@dataclass(frozen=True, slots=True)
class _Stored:
    """What is kept of a version that answers."""

    document: DocumentId
    name: str
    title: str | None
    text: str
    layout: bytes
    rerank: bool


class Reindexing:
    """Implements Handler: its last transaction ends the job. `spaces` are the embedders that are here, the first one
    is what new generations are made with, `chunking` how they are cut.
    """

    def __init__(
        self,
        database: Database,
        folders: Folders,
        jobs: Jobs,
        publisher: Publisher,
        spaces: Sequence[Space],
        chunking: Chunking,
        milvus: MilvusReader | None = None,
        leg: MilvusLeg | None = None,
    ) -> None:
        self._database = database
        self._folders = folders
        self._jobs = jobs
        self._publisher = publisher
        self._generations = Generations(database, folders, leg)
        self._spaces = {space.embedder.fingerprint: space for space in spaces}
        self._comparing = Comparing(database, folders, list(spaces), milvus)
        self._wanted = spaces[0].embedder.fingerprint
        self._chunking = chunking
        self._embedding = Stoppable()

    def run(self, claim: Claim, say: Say) -> Result | None:
        """None where the job has ended with a switch. Nothing is done for a collection that is indexed as is wanted,
        unless the job says `force`.

        Raises Conflict where the new index finds less, where there is none to go back to, and where another job
        re-indexes the collection.
        """
        back = bool(claim.payload.get("back"))
        self._generations.sweep()
        check_alone(self._database, claim)
        if not back and not claim.payload.get("force") and self._is_wanted(claim):
            live = self._generations.of(claim.collection_id)[State.LIVE]
            return self._told(live, self._generations.chunks(live.target), None, switched=False)
        try:
            self._run(claim, say, self._begun(claim, back=back), back=back)
        except Superseded:
            self._generations.sweep()  # nothing stays of a cancelled job; of one in other hands all does
            raise
        return None

    def interrupt(self) -> None:
        """End the batch of passages or the question that is embedded; else the next word ends the job."""
        self._embedding.stop()
        self._comparing.interrupt()

    def _run(self, claim: Claim, say: Say, made: Generation, *, back: bool) -> None:
        target = made.target
        self._fill(claim, say, made)
        figures: Figures | None = None
        if not back and not claim.payload.get("force"):
            live = self._live(claim)
            for each in (live, target):
                self._space(each)
            figures = self._comparing.figures(claim, live, target, say)
            margin = float(claim.payload.get("margin", MARGIN))
            agreement = float(claim.payload.get("agreement", AGREEMENT))
            if figures.worse(margin, agreement):
                self._generations.drop(claim, target)
                raise Conflict(
                    f"the old index goes on, because the new one finds less: {figures.told}. Choose another embedder "
                    "or chunking, or re-index with force"
                )
        self._take_over(claim, say, made, figures)

    def _take_over(self, claim: Claim, say: Say, made: Generation, figures: Figures | None) -> None:
        """Fill in what went live meanwhile, and switch; uploads wait for the last round of it."""

        def result(chunks: int) -> Result:
            return self._told(made, chunks, figures, switched=True)

        while True:
            self._fill(claim, say, made)
            live = self._live(claim)
            with holding(self._database, f"publish {live.generation_id}") as held:
                if held is not None:
                    self._fill(claim, say, made)
                    if self._generations.switch(claim, live, made.target, held, result):
                        return
            say("switch")
            time.sleep(_POLL_S)

    @staticmethod
    def _told(
        made: Generation, chunks: int, figures: Figures | None, *, switched: bool
    ) -> dict[str, object]:
        return {
            "switched": switched,
            "chunks": chunks,
            "embedder": made.target.fingerprint,
            "chunking": made.chunking,
            "compared": asdict(figures) if figures else None,
        }

    def _is_wanted(self, claim: Claim) -> bool:
        live = self._generations.of(claim.collection_id)[State.LIVE]
        return (live.target.fingerprint, live.chunking) == (self._wanted, str(self._chunking))

    def _begun(self, claim: Claim, *, back: bool) -> Generation:
        if not back:
            return self._generations.begin(claim, self._wanted, str(self._chunking))
        previous = self._generations.of(claim.collection_id).get(State.PREVIOUS)
        if previous is None:
            raise Conflict("there is no index to go back to: the collection was never re-indexed")
        return previous

    def _live(self, claim: Claim) -> Target:
        return self._generations.of(claim.collection_id)[State.LIVE].target

    def _fill(self, claim: Claim, say: Say, made: Generation) -> None:
        """Until every version is there that answers now; what goes live meanwhile is left to the next call."""
        target = made.target
        live = self._live(claim)
        newest = self._generations.newest(claim.collection_id)
        while versions := self._generations.missing(target, _VERSIONS_AT_ONCE, newest=newest):
            total = max(self._generations.chunks(live), 1)
            there = self._generations.chunks(target)
            batch: list[StagedVersion] = []
            size = 0
            for version_id in versions:
                tell = partial(self._tell, say, there + size, total)
                staged = self._staged(claim, made, live, version_id, tell)
                if staged is None:  # deleted meanwhile
                    continue
                batch.append(staged)
                size += len(staged.cuts)
                if size >= _CHUNKS_AT_ONCE:
                    break
            if batch:
                self._publisher.fill(target, batch, on_wait=partial(say, "fill", there, total))
            for staged in batch:
                discard_staged(self._place(target, staged.version_id))

    @staticmethod
    def _tell(say: Say, there: int, total: int, done: int) -> None:
        say("fill", min(there + done, total), total)

    def _staged(
        self,
        claim: Claim,
        made: Generation,
        live: Target,
        version_id: int,
        say: Callable[[int], None],
    ) -> StagedVersion | None:
        found = self._stored(version_id)
        if found is None:
            return None
        target = made.target
        embedder = self._space(target).embedder
        chunking = Chunking.parse(made.chunking) or self._chunking
        count = counting(embedder.count_tokens, partial(say, 0))
        cuts = cut(decode_layout(found.text, found.layout), found.title, count, chunking)
        if not cuts:
            raise _unreadable(found.name)
        same = live.fingerprint == target.fingerprint
        before = (
            embedded_before(
                self._database,
                self._folders,
                target.collection_id,
                found.document,
                target.fingerprint,
            )
            if same
            else {}
        )
        unfinished = Unfinished(
            self._place(target, version_id), token=claim.token, fingerprint=target.fingerprint
        )
        rows = self._embedding.run(
            embed_cuts(
                embedder, cuts, tokens=found.rerank, live=before, unfinished=unfinished, say=say
            )
        )
        return StagedVersion(version_id, tuple(cuts), rows)

    def _stored(self, version_id: int) -> _Stored | None:
        with self._database.read() as session:
            version = session.get(VersionRow, version_id)
            document = session.get(DocumentRow, version.document_id) if version else None
            if version is None or document is None or document.live_version_id != version_id:
                return None
            text = session.get(TextRow, version_id)
            if text is None:
                raise _unreadable(document.name)
            collection = session.get_one(CollectionRow, document.collection_id)
            return _Stored(
                DocumentId(document.id),
                document.name,
                version.title or telling(document.name),
                text.text,
                text.layout,
                collection.rerank,
            )

    def _space(self, target: Target) -> Space:
        space = self._spaces.get(target.fingerprint)
        if space is None:
            raise IndexMismatch(
                f"the embedder of this index is not here ({target.fingerprint}): set it as ZHINAO_EMBEDDER__* or "
                "ZHINAO_NEXT_EMBEDDER__*"
            )
        return space

    def _place(self, target: Target, version_id: int) -> Path:
        return self._folders.staged(target.collection_id, target.generation_id, version_id)


def _unreadable(name: str) -> Conflict:
    return Conflict(
        f'the text of "{name}" is not stored any more, so that it cannot be indexed anew: upload the file again, or '
        "delete the document, and then re-index"
    )
