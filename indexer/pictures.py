"""Pages as pictures: a page of a PDF, or an uploaded picture, as PNG, with the lines of a quoted passage marked."""

import asyncio
from concurrent.futures import ThreadPoolExecutor

from sqlmodel import select

from indexer.catalog.views import VersionView
from indexer.folders import Folders
from indexer.parse.drawing import DRAWN
from indexer.parse.limits import Limits
from indexer.parse.pool import ParserPool
from indexer.sql.database import Database
from indexer.sql.tables import TextRow
from indexer.text.stored import decode_layout, locate
from pipeline.errors import InvalidInput, NotFound, Overloaded, UnsupportedMedia
from pipeline.types import Box

WAITING = 32
_LIMITS = Limits(seconds=60, cpu_seconds=30)


class Pictures:
    """Draws one at a time, in a process of its own that a hostile file can't leave; `WAITING` requests may wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pictures")
        self._readers = ParserPool(_LIMITS, children=1)
        self._open = 0

    async def draw(
        self,
        database: Database,
        folders: Folders,
        version: VersionView,
        number: int,
        span: tuple[int, int] | None,
    ) -> bytes:
        """Page `number` (from 1) as PNG; `span` is marked where it stands on this page.

        Raises UnsupportedMedia for a file without pages, NotFound for a page it does not have,
        InvalidInput for a span that is not in the text, DamagedDocument, TooLarge (a page that takes too
        much to draw), and Overloaded.
        """
        if self._open >= WAITING:
            raise Overloaded("too many pages are waiting to be drawn: try again in a moment")
        self._open += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, drawn, self._readers, database, folders, version, number, span
            )
        finally:
            self._open -= 1

    def close(self) -> None:
        """End the thread and the process; who waits for a page gets Unavailable."""
        self._readers.close()
        self._pool.shutdown(wait=False, cancel_futures=True)


def drawn(
    readers: ParserPool,
    database: Database,
    folders: Folders,
    version: VersionView,
    number: int,
    span: tuple[int, int] | None,
) -> bytes:
    """What `Pictures.draw` does in its thread."""
    if version.media_type not in DRAWN:
        raise UnsupportedMedia(
            f"“{version.name}” has no pages to draw, only PDF files and pictures have: "
            f"read its text at /documents/{version.document_id}/text"
        )
    boxes = _boxes(database, version, *span) if span else ()
    path = folders.original(version.collection_id, version.sha256)
    if not path.exists():
        raise NotFound("the original of this version is gone: upload the file again")
    with path.open("rb") as file:
        return readers.draw(file, version.media_type, version.name, number, boxes)


def parse_span(text: str) -> tuple[int, int]:
    """ "start-end" in code points. Raises InvalidInput for anything else.

    >>> parse_span("12-40")
    (12, 40)
    """
    start, dash, end = text.partition("-")
    numbers = all(part.isascii() and part.isdigit() and len(part) < 12 for part in (start, end))
    if not dash or not numbers or int(start) >= int(end):
        raise InvalidInput(
            f"highlight is “{text[:40]}”: give it as start-end, two code points of the stored text, as in 120-180"
        )
    return int(start), int(end)


def _boxes(database: Database, version: VersionView, start: int, end: int) -> tuple[Box, ...]:
    with database.read() as session:
        row = session.exec(select(TextRow).where(TextRow.version_id == version.id)).first()
        if row is None:
            raise NotFound(
                "this version has no text yet to mark: see its job, or leave out highlight"
            )
        text, layout = row.text, row.layout
    if end > len(text):
        raise InvalidInput(
            f"highlight ends at {end}, but the stored text has {len(text)} code points: "
            "take start and end from a citation of this version"
        )
    return locate(decode_layout(text, layout), start, end)[1]
