"""Re-indexing while everything runs: a second generation is filled from the stored texts, compared, and switched to.

Searches and uploads go on in the live generation. What goes live meanwhile is filled in before the switch, which
happens in a transaction that sees that nothing is missing.
"""

import asyncio
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from functools import partial
from pathlib import Path

from indexer.folders import Folders
from indexer.index.commit import Target
from indexer.index.generations import Generation, Generations, State
from indexer.index.publish import Publisher
from indexer.index.snapshot import Snapshots
from indexer.ingest.embedding import embed_cuts
from indexer.ingest.gate import MARGIN, Asked, Figures, compared, known_items
from indexer.ingest.ingest import telling
from indexer.ingest.reuse import embedded_before
from indexer.ingest.unfinished import Unfinished
from indexer.jobs.claims import Claim
from indexer.jobs.jobs import Jobs
from indexer.jobs.work import Result, Say, Superseded
from indexer.segments.staging import StagedVersion, discard_staged
from indexer.sql.database import Database
from indexer.sql.tables import CollectionRow, DocumentRow, TextRow, VersionRow
from indexer.text.chunk import Chunking, cut
from indexer.text.stored import decode_layout
from pipeline.errors import Conflict, IndexMismatch
from pipeline.retrieve import Retriever, Space
from pipeline.types import DocumentId, JobId, JobKind, JobStatus

_CHUNKS_AT_ONCE = 500
"""Chunks of one transaction: what a kill can cost, but for a version that has more."""
_VERSIONS_AT_ONCE = 100


def submit_reindex(
    jobs: Jobs,
    collection: str,
    *,
    back: bool = False,
    force: bool = False,
    margin: float = MARGIN,
    questions: Sequence[Asked] = (),
) -> JobId:
    """A job that indexes a collection anew, or with `back` goes back to the index before. Raises NotFound."""
    asked = [{"question": each.question, "document_ids": each.documents} for each in questions]
    return jobs.submit(
        JobKind.REINDEX,
        collection=collection,
        payload={"back": back, "force": force, "margin": margin, "questions": asked},
        alone=True,
    )


class Reindexing:
    """Implements Handler. `spaces` are the embedders that are here, the first one is what new generations are made
    with, `chunking` how they are cut.
    """

    def __init__(
        self,
        database: Database,
        folders: Folders,
        jobs: Jobs,
        publisher: Publisher,
        spaces: Sequence[Space],
        chunking: Chunking,
    ) -> None:
        self._database = database
        self._folders = folders
        self._jobs = jobs
        self._publisher = publisher
        self._generations = Generations(database, folders)
        self._spaces = {space.embedder.fingerprint: space for space in spaces}
        self._wanted = spaces[0].embedder.fingerprint
        self._chunking = chunking

    def run(self, claim: Claim, say: Say) -> Result:
        """Raises Conflict where the new index finds less, or where there is none to go back to."""
        back = bool(claim.payload.get("back"))
        try:
            return self._run(claim, say, self._begun(claim, back=back), back=back)
        except Superseded:
            if not back and self._cancelled(claim):
                self._drop_building(claim)
            raise

    def interrupt(self) -> None:
        """The next word ends the job: one is said before every batch of passages."""

    def _run(self, claim: Claim, say: Say, made: Generation, *, back: bool) -> Result:
        target = made.target
        self._fill(claim, say, made)
        figures: Figures | None = None
        if not back and not claim.payload.get("force"):
            figures = self._compare(claim, say, target)
            margin = float(claim.payload.get("margin", MARGIN))
            if figures.worse(margin):
                self._generations.drop(target)
                raise Conflict(
                    f"the old index goes on, because the new one finds less: {figures.told}. Choose another embedder "
                    "or chunking, or re-index with force"
                )
        while not self._generations.switch(claim, target):
            self._fill(claim, say, made)
        chunks = self._generations.chunks(target)
        return {
            "chunks": chunks,
            "embedder": target.fingerprint,
            "chunking": made.chunking,
            "compared": asdict(figures) if figures else None,
        }

    def _begun(self, claim: Claim, *, back: bool) -> Generation:
        if not back:
            return self._generations.begin(claim, self._wanted, str(self._chunking))
        previous = self._generations.of(claim.collection_id).get(State.PREVIOUS)
        if previous is None:
            raise Conflict(
                "there is no index to go back to: the collection was not re-indexed, or went back already"
            )
        return previous

    def _fill(self, claim: Claim, say: Say, made: Generation) -> None:
        """Until every version that answers is there, those too that go live meanwhile."""
        target = made.target
        live = self._generations.of(claim.collection_id)[State.LIVE].target
        while versions := self._generations.missing(target, _VERSIONS_AT_ONCE):
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
        document, title, text, layout, rerank = found
        target = made.target
        embedder = self._space(target).embedder
        chunking = Chunking.parse(made.chunking) or self._chunking
        cuts = cut(decode_layout(text, layout), title, embedder.count_tokens, chunking)
        same = live.fingerprint == target.fingerprint
        before = (
            embedded_before(
                self._database,
                self._folders,
                target.collection_id,
                document,
                target.fingerprint,
            )
            if same
            else {}
        )
        unfinished = Unfinished(
            self._place(target, version_id), token=claim.token, fingerprint=target.fingerprint
        )
        rows = asyncio.run(
            embed_cuts(embedder, cuts, tokens=rerank, live=before, unfinished=unfinished, say=say)
        )
        return StagedVersion(version_id, tuple(cuts), rows)

    def _stored(self, version_id: int) -> tuple[DocumentId, str | None, str, bytes, bool] | None:
        with self._database.read() as session:
            version = session.get(VersionRow, version_id)
            text = session.get(TextRow, version_id)
            document = session.get(DocumentRow, version.document_id) if version else None
            if version is None or text is None or document is None:
                return None
            collection = session.get_one(CollectionRow, document.collection_id)
            title = version.title or telling(document.name)
            return DocumentId(document.id), title, text.text, text.layout, collection.rerank

    def _compare(self, claim: Claim, say: Say, target: Target) -> Figures:
        live = self._generations.of(claim.collection_id)[State.LIVE].target
        asked = [
            Asked(each["question"], tuple(map(DocumentId, each["document_ids"])))
            for each in claim.payload.get("questions") or ()
        ] or known_items(self._database, live)
        say("compare", 0, len(asked))
        fingerprints = [self._space(each).embedder.fingerprint for each in (live, target)]
        snapshots = Snapshots(
            self._database, self._folders, fingerprint=fingerprints[0], also=fingerprints[1:]
        )
        name = self._name(claim)
        with ThreadPoolExecutor(1, thread_name_prefix="compare") as pool:
            before, after = (
                Retriever(
                    list(self._spaces.values()),
                    partial(snapshots.open_generation, generation_id=each.generation_id),
                    pool,
                )
                for each in (live, target)
            )
            return asyncio.run(
                compared(before, after, name, asked, lambda done: say("compare", done, len(asked)))
            )

    def _name(self, claim: Claim) -> str:
        with self._database.read() as session:
            return session.get_one(CollectionRow, claim.collection_id).name

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

    def _cancelled(self, claim: Claim) -> bool:
        return self._jobs.get(claim.job).status is JobStatus.CANCELLED

    def _drop_building(self, claim: Claim) -> None:
        building = self._generations.of(claim.collection_id).get(State.BUILDING)
        if building is not None:
            self._generations.drop(building.target)
