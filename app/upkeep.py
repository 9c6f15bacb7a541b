"""The loop that has the index looked after: merges are asked for when uploads and deletes made them due, what a
re-index left goes, and what was searched for is remembered.
"""

import asyncio
import logging

from indexer.catalog.recent import RecentQueries
from indexer.folders import Folders
from indexer.index.generations import Generations
from indexer.index.merging import ask_for_merges
from indexer.index.rewriting import mend_words
from indexer.sql.database import Database
from pipeline.errors import RagError

_EVERY_S = 5.0
_log = logging.getLogger("zhinao.upkeep")


async def upkeep(database: Database, folders: Folders, recent: RecentQueries) -> None:
    """Write lost words again, then run until cancelled.

    Every process may run one: a collection has one open job of the kind.
    """
    try:
        for name, why in (await asyncio.to_thread(mend_words, database, folders)).items():
            _log.warning("the words of the collection %s were written again: %s", name, why)
    except RagError as error:
        _log.warning("%s", error)
    generations = Generations(database, folders)
    while True:
        await asyncio.sleep(_EVERY_S)
        try:
            await asyncio.to_thread(ask_for_merges, database)
            await asyncio.to_thread(generations.sweep)
            await asyncio.to_thread(recent.write)
        except RagError as error:
            _log.warning("%s", error)
        except Exception:  # noqa: BLE001  (an entry point: the loop must go on)
            _log.exception("the index could not be looked after")
