"""Documents that are older than a collection keeps them."""

import time
from collections.abc import Callable

from sqlalchemy import exists
from sqlmodel import col, select

from indexer.catalog.removal import remove
from indexer.folders import Folders
from indexer.jobs.claims import Claim, owned
from indexer.jobs.work import Result, Say, Superseded
from indexer.sql.database import Database
from indexer.sql.locks import locked
from indexer.sql.tables import CollectionRow, DocumentRow, VersionRow

_AT_ONCE = 50
_DAY_S = 86_400


class Expiring:
    """Implements Handler: deletes documents whose newest version came more than `days` ago."""

    def __init__(
        self, database: Database, folders: Folders, *, clock: Callable[[], float] = time.time
    ) -> None:
        self._database = database
        self._folders = folders
        self._clock = clock

    def run(self, claim: Claim, say: Say) -> Result:
        """What came out of an archive goes with it, not before."""
        until = self._clock() - float(claim.payload["days"]) * _DAY_S
        newer = exists().where(
            col(VersionRow.document_id) == col(DocumentRow.id), col(VersionRow.created) >= until
        )
        old = select(DocumentRow.id).where(
            DocumentRow.collection_id == claim.collection_id,
            col(DocumentRow.parent_id).is_(None),
            ~newer,
        )
        with self._database.read() as session:
            total = len(session.exec(old).all())
        done = 0
        while True:
            say("expire", min(done, total), total)
            with self._database.write() as session:
                collection = locked(session, CollectionRow, claim.collection_id)
                if collection is None or owned(session, claim) is None:
                    raise Superseded
                ids = session.exec(old.order_by(col(DocumentRow.created)).limit(_AT_ONCE)).all()
                if not ids:
                    return {"deleted": done}
                remove(session, self._folders, collection, list(ids))
            done += len(ids)

    def interrupt(self) -> None:
        """A batch takes no time to speak of; the next word ends the job."""
