"""Pages as pictures: a page of a PDF, or an uploaded picture, as PNG, with the lines of a quoted passage marked."""

import asyncio
import io
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import numpy.typing as npt
from sqlmodel import select

from indexer.database import Database
from indexer.folders import Folders
from indexer.parse.images import FORMATS, upright
from indexer.parse.media import JPEG, PDF, PNG, TIFF, WEBP
from indexer.parse.pdfium import PDFIUM, open_document, open_page
from indexer.stored import decode_layout, locate
from indexer.tables import TextRow
from indexer.views import VersionView
from pipeline.errors import DamagedDocument, InvalidInput, NotFound, Overloaded, UnsupportedMedia
from pipeline.types import Box

Pixels = npt.NDArray[np.uint8]

SCALE = 1.5
"""Pixels a point, 108 dots an inch: small print can be read, and an A4 page is 893 x 1263."""
LONGEST = 2000
"""Pixels of the longer side, at most: a poster is drawn smaller."""
DRAWN = frozenset({PDF, PNG, JPEG, TIFF, WEBP})
MARK = (255, 214, 0)
OPACITY = 0.4
WAITING = 32
_MARGIN = 0.0015


class Pictures:
    """Draws in one thread of its own, as pdfium works for one at a time; `WAITING` requests may wait."""

    def __init__(self) -> None:
        self._pool = ThreadPoolExecutor(1, thread_name_prefix="pictures")
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
        InvalidInput for a span that is not in the text, DamagedDocument, and Overloaded.
        """
        if self._open >= WAITING:
            raise Overloaded("too many pages are waiting to be drawn: try again in a moment")
        self._open += 1
        try:
            return await asyncio.get_running_loop().run_in_executor(
                self._pool, drawn, database, folders, version, number, span
            )
        finally:
            self._open -= 1


def drawn(
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
    draw = page_pixels if version.media_type == PDF else image_pixels
    pixels = draw(path, version.name, number)
    mark(pixels, [box for box in boxes if box.page == number])
    return as_png(pixels)


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


def page_pixels(path: Path, name: str, number: int) -> Pixels:
    """A page as (height, width, 3) RGB. Raises NotFound for a page that is not there, DamagedDocument."""
    with PDFIUM:
        document = open_document(path, name)
        try:
            count = len(document)
            _check_page(name, number, count)
            page = open_page(document, number - 1, name)
            try:
                scale = scale_of(*page.get_size())
                bitmap = page.render(scale=scale, rev_byteorder=True, prefer_bgrx=False)
                pixels: Pixels = bitmap.to_numpy()[:, :, :3].copy()
                bitmap.close()
            finally:
                page.close()
        finally:
            document.close()
    return pixels


def image_pixels(path: Path, name: str, number: int) -> Pixels:
    """A picture, upright, or page `number` of a TIFF, as `page_pixels` gives a page."""
    from PIL import Image

    try:
        with Image.open(path, formats=FORMATS) as picture:
            pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
            _check_page(name, number, pages)
            picture.seek(number - 1)
            shown = Image.fromarray(upright(picture)).convert("RGB")
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        raise DamagedDocument(f"“{name}” is a damaged picture: upload it again") from error
    shown.thumbnail((LONGEST, LONGEST))
    return np.array(shown)


def _check_page(name: str, number: int, count: int) -> None:
    if not 1 <= number <= count:
        pages = "1 page" if count == 1 else f"{count} pages"
        raise NotFound(f"“{name}” has {pages}, there is no page {number}")


def scale_of(width: float, height: float) -> float:
    """Pixels a point for a page of this size in points.

    >>> scale_of(595, 842), round(scale_of(2000, 4010), 3)
    (1.5, 0.499)
    """
    # pdfium rounds a side up to whole pixels
    return min(SCALE, (LONGEST - 1) / max(width, height, 1.0))


def mark(pixels: Pixels, boxes: Sequence[Box]) -> None:
    """Lay translucent yellow over the boxes, in place; where boxes overlap, once."""
    height, width, _ = pixels.shape
    marked = np.zeros((height, width), dtype=bool)
    for box in boxes:
        rows = slice(_pixel(box.y0 - _MARGIN, height), _pixel(box.y1 + _MARGIN, height) + 1)
        columns = slice(_pixel(box.x0 - _MARGIN, width), _pixel(box.x1 + _MARGIN, width) + 1)
        marked[rows, columns] = True
    mixed = pixels[marked] * (1 - OPACITY) + np.array(MARK) * OPACITY
    pixels[marked] = mixed.round().astype(np.uint8)


def as_png(pixels: Pixels) -> bytes:
    """The picture as a PNG file."""
    from PIL import Image

    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG", compress_level=3)
    return buffer.getvalue()


def _pixel(fraction: float, size: int) -> int:
    return int(min(max(fraction, 0.0), 1.0) * (size - 1))


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
