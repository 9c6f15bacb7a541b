"""Compaction on demand: afterwards no store of a collection holds anything of what was deleted."""

from collections.abc import Callable
from dataclasses import dataclass

from indexer.folders import Folders
from indexer.index.holding import alone_in
from indexer.index.leftovers import leftover_files
from indexer.index.merge import Merger, stale_first
from indexer.index.milvus_leg import MilvusLeg, place_of, set_up
from indexer.index.milvus_rows import rewrite_rows
from indexer.index.rewriting import rewrite_words
from indexer.milvus.store import MilvusStore
from indexer.sql.database import Database


@dataclass(frozen=True, slots=True)
class Compacted:
    """What was written again: segments, passages in words indexes, files removed."""

    segments: int
    words: int
    files: int
    database: str


def compact(
    database: Database,
    folders: Folders,
    collections: list[str],
    *,
    milvus: MilvusStore | None = None,
    settled_s: float = 60.0,
    say: Callable[[str], None] = lambda _: None,
) -> Compacted:
    """Write the segments of these collections (ids) without dead rows and their words anew, then the SQL file.

    Searches go on; uploads wait while their collection's words are written. Dead rows are deleted from Milvus, too.
    Raises Unavailable when another process holds the collection for two minutes, or no Milvus is set that is needed.
    """
    merger = Merger(database, folders)
    segments = words = 0
    for collection_id in collections:
        say("segments")
        segments += merger.run(collection_id, policy=stale_first)
        for target in merger.targets(collection_id):
            with database.read() as session:
                outside = place_of(session, target.generation_id) is not None
            say("words")
            with alone_in(database, target) as held:
                if outside:
                    rewrite_rows(database, folders, set_up(milvus), target, held)
                else:
                    words += rewrite_words(database, folders, target, held)
    if milvus is not None:
        MilvusLeg(database, milvus).sweep()
    say("files")
    files = 0
    for finding in leftover_files(database, folders, settled_s=settled_s):
        if finding.mend is not None:
            finding.mend()
            files += 1
    say("database")
    return Compacted(segments, words, files, database.vacuum())
