"""Compaction on demand: afterwards no store of a collection holds anything of what was deleted."""

from collections.abc import Callable
from dataclasses import dataclass

from indexer.folders import Folders
from indexer.index.holding import alone_in
from indexer.index.leftovers import leftover_files
from indexer.index.merge import Merger, stale_first
from indexer.index.milvus_leg import place_of
from indexer.index.rewriting import rewrite_words
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
    settled_s: float = 60.0,
    say: Callable[[str], None] = lambda _: None,
) -> Compacted:
    """Write the segments of these collections (ids) without dead rows and their words anew, then the SQL file.

    Searches go on; uploads wait while their collection's words are written. Raises Unavailable when another process
    holds the collection for two minutes.
    """
    merger = Merger(database, folders)
    segments = words = 0
    for collection_id in collections:
        say("segments")
        segments += merger.run(collection_id, policy=stale_first)
        for target in merger.targets(collection_id):
            with database.read() as session:
                outside = place_of(session, target.generation_id) is not None
            if outside:
                continue
            say("words")
            with alone_in(database, target) as held:
                words += rewrite_words(database, folders, target, held)
    say("files")
    files = 0
    for finding in leftover_files(database, folders, settled_s=settled_s):
        if finding.mend is not None:
            finding.mend()
            files += 1
    say("database")
    return Compacted(segments, words, files, database.vacuum())
