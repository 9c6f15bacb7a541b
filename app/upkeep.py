"""The loop that has the index looked after: what the dead left goes at the start, merges are asked for when uploads and
deletes made them due, what a re-index left goes, and what was searched for is remembered.
"""

import asyncio
import logging

from indexer.catalog.recent import RecentQueries
from indexer.folders import Folders
from indexer.index.generations import Generations
from indexer.index.merging import ask_for_merges
from indexer.index.rewriting import mend_words
from indexer.index.sweeping import all_targets, sweep
from indexer.sql.database import Database
from pipeline.errors import RagError

_EVERY_S = 5.0
_log = logging.getLogger("zhinao.upkeep")


async def upkeep(database: Database, folders: Folders, recent: RecentQueries) -> None:
    """Put the index in order after a crash, then run until cancelled.

    Every process may run one: a collection has one open job of the kind.
    """
    try:
        for name, why in (await asyncio.to_thread(mend_words, database, folders)).items():
            _log.warning("the words of the collection %s were written again: %s", name, why)
        busy = frozenset(await asyncio.to_thread(all_targets, database))
    except RagError as error:
        _log.warning("%s", error)
        busy = frozenset()
    generations = Generations(database, folders)
    while True:
        try:
            if busy:  # the lease of a process that died holds for a while
                busy = await asyncio.to_thread(sweep, database, folders, busy)
            await asyncio.to_thread(ask_for_merges, database)
            await asyncio.to_thread(generations.sweep)
            await asyncio.to_thread(recent.write)
        except RagError as error:
            _log.warning("%s", error)
        except Exception:  # noqa: BLE001  (an entry point: the loop must go on)
            _log.exception("the index could not be looked after")
        await asyncio.sleep(_EVERY_S)
