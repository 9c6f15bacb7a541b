"""The loop that has the index looked after: merges are asked for when uploads and deletes made them due."""

import asyncio
import logging

from indexer.index.merging import ask_for_merges
from indexer.sql.database import Database
from pipeline.errors import RagError

_EVERY_S = 5.0
_log = logging.getLogger("zhinao.upkeep")


async def upkeep(database: Database) -> None:
    """Run until cancelled. Every process may run one: a collection has one open job of the kind."""
    while True:
        await asyncio.sleep(_EVERY_S)
        try:
            await asyncio.to_thread(ask_for_merges, database)
        except RagError as error:
            _log.warning("%s", error)
        except Exception:  # noqa: BLE001  (an entry point: the loop must go on)
            _log.exception("merges could not be asked for")
