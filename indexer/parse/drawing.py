"""A page of a PDF, or a picture, as PNG with boxes marked."""

import io
from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt

from indexer.parse.images import FORMATS, upright
from indexer.parse.media import JPEG, PDF, PNG, TIFF, WEBP
from indexer.parse.pdfium import PDFIUM, open_document, open_page
from pipeline.errors import DamagedDocument, NotFound
from pipeline.types import Box

Pixels = npt.NDArray[np.uint8]

SCALE = 1.5
"""Pixels a point, 108 dots an inch: small print can be read, and an A4 page is 893 x 1263."""
LONGEST = 2000
"""Pixels of the longer side, at most: a poster is drawn smaller."""
DRAWN = frozenset({PDF, PNG, JPEG, TIFF, WEBP})
MARK = (255, 214, 0)
OPACITY = 0.4
_MARGIN = 0.0015


def drawn_page(data: bytes, media_type: str, name: str, number: int, boxes: Sequence[Box]) -> bytes:
    """Page `number` (from 1) as PNG, with those of the boxes marked that are on it.

    Raises NotFound for a page that is not there, and DamagedDocument.
    """
    draw = page_pixels if media_type == PDF else image_pixels
    pixels = draw(data, name, number)
    mark(pixels, [box for box in boxes if box.page == number])
    return as_png(pixels)


def page_pixels(source: bytes | Path, name: str, number: int) -> Pixels:
    """A page as (height, width, 3) RGB. Raises NotFound for a page that is not there, DamagedDocument."""
    with PDFIUM:
        document = open_document(source, name)
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


def image_pixels(source: bytes | Path, name: str, number: int) -> Pixels:
    """A picture, upright, or page `number` of a TIFF, as `page_pixels` gives a page."""
    from PIL import Image

    try:
        with Image.open(_seekable(source), formats=FORMATS) as picture:
            pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
            _check_page(name, number, pages)
            picture.seek(number - 1)
            shown = Image.fromarray(upright(picture)).convert("RGB")
    except (OSError, SyntaxError, EOFError, ValueError, Image.DecompressionBombError) as error:
        raise DamagedDocument(f"“{name}” is a damaged picture: upload it again") from error
    shown.thumbnail((LONGEST, LONGEST))
    return np.array(shown)


def _seekable(source: bytes | Path) -> io.BytesIO | Path:
    return io.BytesIO(source) if isinstance(source, bytes) else source


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
