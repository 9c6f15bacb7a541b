"""Pictures of pages: PNG, JPEG, WebP, and TIFF with all its pages, read by OCR."""

import io
from collections.abc import Generator, Iterator
from contextlib import contextmanager
from itertools import pairwise
from typing import TYPE_CHECKING, Any

import numpy as np

from indexer.parse import outline
from indexer.parse.lines import Line, Sheet
from indexer.parse.media import JPEG, PNG, TIFF, WEBP
from indexer.parse.ocr import Pixels, RapidRecognizer, Recognizer
from indexer.parse.pdf import MAX_PAGES, elements_of
from pipeline.errors import DamagedDocument, EmptyDocument, TooLarge
from pipeline.types import Parsed

if TYPE_CHECKING:
    from PIL.Image import Image

MAX_PIXELS = 80_000_000
"""Of one page, before anything is decoded: A3 at 600 dots an inch has 70 million."""
_WORKED = 25_000_000
"""Pixels that are looked at; larger pictures are made smaller."""
_PAGE_HEIGHT = 842
"""Points. The longer side of a page of A4, which every picture is taken for."""
_TALL = 2.0
"""Times its width; a picture that is taller is read in bands, since OCR would shrink it."""
_LEAST_CONTRAST = 30
FORMATS = ("PNG", "JPEG", "TIFF", "WEBP")


class ImageParser:
    """Reads pictures, a page each; boxes are fractions of the picture as it is looked at (upright).

    Raises TooLarge (over `max_pixels` a page, over `max_pages`), DamagedDocument, and EmptyDocument
    where no text is legible.
    """

    def __init__(
        self,
        *,
        recognizer: Recognizer | None = None,
        max_pixels: int = MAX_PIXELS,
        max_pages: int = MAX_PAGES,
    ) -> None:
        self._recognizer = recognizer or RapidRecognizer()
        self._max_pixels = max_pixels
        self._max_pages = max_pages

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({PNG, JPEG, TIFF, WEBP})

    def parse(self, data: bytes, name: str) -> Parsed:
        return self.joined(data, name, tuple(self.sheets(data, name, 0, self.count(data, name))))

    def count(self, data: bytes, name: str) -> int:
        """How many pages there are: one, but in a TIFF."""
        with self._opened(data, name) as picture:
            pages = getattr(picture, "n_frames", 1) if picture.format == "TIFF" else 1
        if pages > self._max_pages:
            raise TooLarge(
                f"“{name}” has {pages:,} pages, more than the limit of {self._max_pages:,}. "
                "Split it and upload the parts."
            )
        return int(pages)

    def sheets(self, data: bytes, name: str, first: int, last: int) -> Iterator[Sheet]:
        """The pages from `first` up to `last`, counted from 0, one after another."""
        with self._opened(data, name) as picture:
            for index in range(first, last):
                picture.seek(index)
                self._refuse_large(picture, name)
                yield self._sheet(index + 1, upright(picture))

    def joined(self, _data: bytes, name: str, sheets: tuple[Sheet, ...]) -> Parsed:
        """The document of all its pages."""
        if not any(sheet.lines for sheet in sheets):
            raise EmptyDocument(
                f"“{name}” has no text: it is blank or not legible. Upload a sharper picture."
            )
        return Parsed(outline.outlined(elements_of(sheets, ())), None, len(sheets))

    @contextmanager
    def _opened(self, data: bytes, name: str) -> Generator["Image", None, None]:
        from PIL import Image, UnidentifiedImageError

        try:
            with Image.open(io.BytesIO(data), formats=FORMATS) as picture:
                yield picture
        except (Image.DecompressionBombError, Image.DecompressionBombWarning) as error:
            raise self._too_large(name) from error
        except (UnidentifiedImageError, SyntaxError, EOFError, ValueError) as error:
            raise DamagedDocument(
                f"“{name}” is a damaged picture. Open it, save it again and upload it."
            ) from error

    def _refuse_large(self, picture: "Image", name: str) -> None:
        if picture.width * picture.height > self._max_pixels:
            raise self._too_large(name)

    def _too_large(self, name: str) -> TooLarge:
        return TooLarge(
            f"“{name}” has a picture of more than {self._max_pixels // 1_000_000} million pixels. "
            "Make it smaller and upload it again."
        )

    def _sheet(self, number: int, pixels: Pixels) -> Sheet:
        height, width = pixels.shape[:2]
        scale = max(height, width) / _PAGE_HEIGHT
        lines: list[Line] = []
        for top, bottom in pairwise(cuts(pixels)):
            band = pixels[top:bottom]
            if int(band.max()) - int(band.min()) >= _LEAST_CONTRAST:
                lines += (
                    _lowered(line, top / scale) for line in self._recognizer.read(band, scale)
                )
        return Sheet(number, width / scale, height / scale, tuple(lines), scanned=True)


def cuts(pixels: Pixels) -> list[int]:
    """The rows where the bands of a picture begin and the last one ends.

    A picture up to twice as tall as wide is one band. Of a taller one each band is about as tall as
    wide and ends at the plainest row near there, between two lines of text.
    """
    height, width = pixels.shape[:2]
    if height <= _TALL * width:
        return [0, height]
    grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
    unrest = np.ptp(grey, axis=1)
    found = [0]
    reach = max(width, 64)
    while height - found[-1] > 1.5 * reach:
        first = found[-1] + reach // 2
        plain = unrest[first : first + reach]
        quiet = np.flatnonzero(plain <= plain.min() + 2)
        found.append(first + int(quiet[np.abs(quiet - reach // 2).argmin()]))
    return [*found, height]


def _lowered(line: Line, by: float) -> Line:
    return Line(line.text, line.x0, line.y0 + by, line.x1, line.y1 + by, line.base + by, line.size)


def upright(picture: "Image") -> Pixels:
    """Upright, on white, as (height, width) or (height, width, 3) bytes, `_WORKED` pixels at most."""
    from PIL import ImageOps

    area = picture.width * picture.height
    shrink = min(1.0, (_WORKED / area) ** 0.5) if area else 1.0
    size = (max(1, int(picture.width * shrink)), max(1, int(picture.height * shrink)))
    if shrink < 1:
        picture.draft("RGB", size)
    whole = _opaque(picture)
    if whole.size != size and shrink < 1:
        whole = whole.resize(size, reducing_gap=2.0)
    upright: Any = ImageOps.exif_transpose(whole)
    return np.asarray(upright, dtype=np.uint8)


def _opaque(picture: "Image") -> "Image":
    """The picture as grey or RGB of eight bits, with white behind what is transparent."""
    from PIL import Image

    if picture.mode.startswith(("I", "F")):  # scanners' 16 and 32 bits a pixel
        values = np.asarray(picture, dtype=np.float32)
        top = max(float(values.max()), 1.0)
        return Image.fromarray((values.clip(0) * (255 / top)).astype(np.uint8))
    if picture.mode in {"1", "L"}:
        return picture.convert("L")
    if picture.mode in {"LA", "La", "PA", "RGBA", "RGBa"} or "transparency" in picture.info:
        coloured = picture.convert("RGBA")
        behind = Image.new("RGB", picture.size, "white")
        behind.paste(coloured, mask=coloured.getchannel("A"))
        return behind
    return picture.convert("RGB")
