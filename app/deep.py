"""`zhinao doctor --deep`: every byte of the stores against the catalog, mended and compacted on request."""

from collections.abc import Callable

from sqlmodel import select

from app.doctor import Check
from app.settings import Settings
from app.wiring_index import build_milvus
from indexer.folders import Folders
from indexer.index.compaction import compact
from indexer.index.findings import Finding
from indexer.index.inspection import inspect
from indexer.milvus.store import MilvusStore
from indexer.sql.database import Database
from indexer.sql.tables import CollectionRow
from pipeline.errors import RagError

_ROUNDS = 3
"""Mending may leave something to mend: the files of a segment that was taken out."""
Say = Callable[[str], None]


def examine_deep(
    settings: Settings, *, mend: bool = False, compacted: bool = False, say: Say = lambda _: None
) -> list[Check]:
    """What the stores hold that they should not, or lack; nothing is changed unless `mend` or `compacted` say so.

    A server may run meanwhile. Raises RagErrors that say what keeps it from looking.
    """
    folders = Folders(settings.data.resolve())
    if settings.database.startswith("sqlite") and not folders.database.exists():
        return [Check("stores", ok=True, says=f"{folders.data} holds nothing yet")]
    database = Database(settings.database)
    milvus = build_milvus(settings.index)
    try:
        told: list[Check] = []
        if mend:
            told += _mend(database, folders, milvus, say)
        if compacted:
            told.append(_compact(database, folders, milvus, say))
        found = inspect(database, folders, milvus=milvus, say=say)
        told += [_told(finding, mended=mend) for finding in found]
        if all(check.ok for check in told):
            told.append(
                Check("stores", ok=True, says="segments, words, texts, originals and rows agree")
            )
        return told
    finally:
        if milvus is not None:
            milvus.close()
        database.close()


def _mend(
    database: Database, folders: Folders, milvus: MilvusStore | None, say: Say
) -> list[Check]:
    told: list[Check] = []
    for _ in range(_ROUNDS):
        found = inspect(database, folders, milvus=milvus, say=say)
        mended = [finding for finding in found if finding.mend]
        if not mended:
            break
        for finding in mended:
            say(f"mending: {finding.says}")
            told.append(_mended(finding))
    return told


def _mended(finding: Finding) -> Check:
    assert finding.mend is not None
    try:
        return Check(_part(finding), ok=True, says=f"{finding.says}: {finding.mend()}")
    except RagError as error:
        return Check(_part(finding), ok=False, says=f"{finding.says}; not mended: {error}")


def _compact(database: Database, folders: Folders, milvus: MilvusStore | None, say: Say) -> Check:
    with database.read() as session:
        ids = session.exec(select(CollectionRow.id).order_by(CollectionRow.name)).all()
    try:
        done = compact(
            database,
            folders,
            list(ids),
            milvus=milvus,
            say=lambda what: say(f"compacting: {what}"),
        )
    except RagError as error:
        return Check("compaction", ok=False, says=str(error))
    return Check(
        "compaction",
        ok=True,
        says=f"{done.segments} segments and the words of {done.words} passages were written anew, {done.files} files "
        f"removed; {done.database}",
    )


def _told(finding: Finding, *, mended: bool) -> Check:
    way = "" if finding.mend is None or mended else "; zhinao doctor --deep --mend mends it"
    return Check(_part(finding), ok=False, says=f"{finding.says}{way}")


def _part(finding: Finding) -> str:
    return f"{finding.part} of {finding.collection}" if finding.collection else finding.part
