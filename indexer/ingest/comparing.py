"""Two generations of a collection asked the same questions, each in one state, whatever goes on meanwhile."""

from collections.abc import Sequence
from concurrent.futures import Executor, ThreadPoolExecutor
from dataclasses import replace

from indexer.catalog.questions import questions_of
from indexer.catalog.recent import recent_queries
from indexer.folders import Folders
from indexer.index.commit import Target
from indexer.index.milvus_leg import MilvusReader
from indexer.index.snapshot import Snapshots
from indexer.ingest.gate import QUERIES, Asked, Figures, agreeing, compared, known_items
from indexer.ingest.stoppable import Stoppable
from indexer.jobs.claims import Claim
from indexer.jobs.work import Say
from indexer.sql.database import Database
from indexer.sql.tables import CollectionRow
from pipeline.ports import Snapshot
from pipeline.retrieve import Retriever, Space
from pipeline.types import DocumentId


class Comparing:
    """Asks by the embedders of `spaces`, which must be those of both generations."""

    def __init__(
        self,
        database: Database,
        folders: Folders,
        spaces: Sequence[Space],
        milvus: MilvusReader | None = None,
    ) -> None:
        self._database = database
        self._folders = folders
        self._spaces = spaces
        self._milvus = milvus
        self._asking = Stoppable()

    def figures(self, claim: Claim, live: Target, target: Target, say: Say) -> Figures:
        """The job's questions, else the collection's own; else sentences of its passages and its recent queries."""
        with self._database.read() as session:
            name = session.get_one(CollectionRow, claim.collection_id).name
        source, asked = self._asked(claim, name, live, target)
        queries: Sequence[str] = ()
        if source == "passages":
            queries = recent_queries(self._database, claim.collection_id, QUERIES)
        total = len(asked) + len(queries)
        snapshots = Snapshots(
            self._database,
            self._folders,
            fingerprint=live.fingerprint,
            also=[target.fingerprint],
            milvus=self._milvus,
        )
        say("compare", 0, total)
        with ThreadPoolExecutor(1, thread_name_prefix="compare") as pool:
            before, after = (
                self._retriever(snapshots.open_generation(name, each.generation_id), pool)
                for each in (live, target)
            )
            figures = self._asking.run(
                compared(before, after, name, asked, lambda done: say("compare", done, total))
            )
            count, agreement, overlap = self._asking.run(
                agreeing(
                    *(before, after, name, queries),
                    lambda done: say("compare", len(asked) + done, total),
                )
            )
        return replace(
            figures, source=source, queries=count, agreement=agreement, queries_overlap=overlap
        )

    def interrupt(self) -> None:
        """End the question that is asked."""
        self._asking.stop()

    def _asked(
        self, claim: Claim, name: str, live: Target, target: Target
    ) -> tuple[str, Sequence[Asked]]:
        """Questions whose answers are known, and where they come from."""
        given = [
            Asked(
                each["question"],
                tuple(map(DocumentId, each["document_ids"])),
                passage=each.get("passage"),
            )
            for each in claim.payload.get("questions") or ()
        ]
        if given:
            return "given", given
        stored = stored_questions(self._database, name)
        if stored:
            return "stored", stored
        return "passages", known_items(self._database, live, target)

    def _retriever(self, opened: Snapshot, pool: Executor) -> Retriever:
        return Retriever(self._spaces, lambda _: opened, pool)


def stored_questions(database: Database, collection: str) -> list[Asked]:
    """The collection's own questions. Raises NotFound."""
    return [
        Asked(each.text, tuple(each.documents), passage=each.passage)
        for each in questions_of(database, collection)
    ]
