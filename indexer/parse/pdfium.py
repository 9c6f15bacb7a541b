"""What is asked of pdfium: lines with places, bookmarks, the title. Call all of it under `PDFIUM`."""

import ctypes
import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from indexer.parse.celled import Found, tabled
from indexer.parse.drawn import rulings
from indexer.parse.encoding import clean
from indexer.parse.lines import Line, Ruled
from indexer.parse.mend import HYPHENS
from indexer.parse.outline import one_line
from indexer.parse.ruled import frames
from indexer.parse.titles import Bookmark
from pipeline.errors import DamagedDocument

PDFIUM = threading.RLock()
"""pdfium works for one thread at a time: whoever calls it in this process holds this lock."""

_BULLETS = str.maketrans(dict.fromkeys("\uf0b7\uf0a7\uf0d8\uf06c\uf06e\uf076\uf0fc", "•"))
_LINE = re.compile(rf"[^\r\n{HYPHENS}]*[{HYPHENS}]?")
_UNREADABLE = re.compile(r"[\ufffd\ue000-\uf8ff\x00-\x08\x0e-\x1f]")
_MARK_AT_END = re.compile(rf"[{HYPHENS}]$")
_FEW = 24
_WIDE_GAP = 0.7
"""The least gap between two columns, in font heights."""
_PASSWORD_ERROR = 4
_NO_TITLE = re.compile(
    r"^(?:untitled|无标题|未命名|title|document\d*|microsoft (?:word|powerpoint|excel)\b.*|"
    r".*\.(?:docx?|pptx?|xlsx?|pdf|tex|dvi|indd|qxd|rtf|html?))$",
    re.IGNORECASE,
)


def open_document(source: bytes | Path, name: str) -> Any:  # noqa: ANN401 - pypdfium2 ships no types
    """A PDF from its bytes or its file; close it. Raises DamagedDocument when it is cut off or encrypted."""
    import pypdfium2

    try:
        with PDFIUM:
            return pypdfium2.PdfDocument(source)
    except pypdfium2.PdfiumError as error:
        if getattr(error, "err_code", None) == _PASSWORD_ERROR or "assword" in str(error):
            raise DamagedDocument(
                f"“{name}” is encrypted. Remove the password and upload it again."
            ) from error
        raise DamagedDocument(
            f"“{name}” is damaged: it is cut off or no PDF inside. Upload it again from the original."
        ) from error


def open_page(document: Any, index: int, name: str) -> Any:  # noqa: ANN401 - pypdfium2 ships no types
    """Page `index` (from 0); close it. Raises DamagedDocument when it cannot be read."""
    import pypdfium2

    try:
        return document[index]
    except pypdfium2.PdfiumError as error:
        raise DamagedDocument(
            f"Page {index + 1} of “{name}” can't be read: the file is cut off. Upload it again from "
            "the original."
        ) from error


@dataclass(frozen=True, slots=True)
class Shown:
    """How a page is shown: its box in its own coordinates, which go up, turned clockwise by `turn` degrees."""

    left: float
    bottom: float
    right: float
    top: float
    turn: int

    def point(self, x: float, y: float) -> tuple[float, float]:
        """Where a point of the page is shown, from the top left.

        >>> [Shown(0, 0, 600, 800, turn).point(10, 790) for turn in (0, 90, 180, 270)]
        [(10, 10), (790, 10), (590, 790), (10, 590)]
        """
        match self.turn:
            case 90:
                return y - self.bottom, x - self.left
            case 180:
                return self.right - x, y - self.bottom
            case 270:
                return self.top - y, self.right - x
            case _:
                return x - self.left, self.top - y


def page_lines(page: Any) -> tuple[list[Line], tuple[Ruled, ...]]:  # noqa: ANN401 - pypdfium2 ships no types
    """The lines of a page in pdfium's order, in points from the top left of the page as it is shown, and its tables.

    A line that ends inside a word keeps the hyphenation mark at its end; a character that the font
    gives no meaning is U+FFFD, see `legible`.
    """
    textpage = page.get_textpage()
    try:
        text = _characters(textpage)
        left, bottom, right, top = page.get_bbox()
        shown = Shown(left, bottom, right, top, page.get_rotation())
        found = [
            Found(line, piece[0], piece.start())
            for piece in _LINE.finditer(text)
            if piece[0].strip()
            and (line := _line(textpage, piece[0], piece.start(), shown)) is not None
        ]
        drawn = frames(rulings(page, shown.point)) if found else []

        def middle(index: int) -> tuple[float, float]:
            x0, y0, x1, y1 = textpage.get_charbox(index)
            return shown.point((x0 + x1) / 2, (y0 + y1) / 2)

        return tabled(found, drawn, middle, _read)
    finally:
        textpage.close()


def _characters(textpage: Any) -> str:  # noqa: ANN401 - pypdfium2 ships no types
    """The page's text with one code point for each of pdfium's characters, U+FFFD for unmapped ones.

    pdfium's own text leaves unmapped characters out, so that its indices no longer fit.
    """
    from pypdfium2 import raw

    count = textpage.count_chars()
    text: str = textpage.get_text_range()
    if len(text) == count:
        return text
    codes = (raw.FPDFText_GetUnicode(textpage, index) for index in range(count))
    return "".join(chr(code) if 0 < code < 0x110000 else "\ufffd" for code in codes)


def _line(textpage: Any, piece: str, start: int, shown: Shown) -> Line | None:  # noqa: ANN401
    from pypdfium2 import raw

    count = len(piece)
    rects = [
        textpage.get_rect(index) for index in range(raw.FPDFText_CountRects(textpage, start, count))
    ]
    text = _read(piece)
    if not text.strip():
        return None
    if not rects:
        rects = [textpage.get_charbox(start)]
    corners = [shown.point(x, y) for x0, y0, x1, y1 in rects for x, y in ((x0, y0), (x1, y1))]
    x0, y0 = (min(along) for along in zip(*corners, strict=True))
    x1, y1 = (max(along) for along in zip(*corners, strict=True))
    seen = [start + at for at in range(count) if piece[at : at + 1].strip()] or [start]
    probes = [seen[len(seen) * part // 4] for part in (1, 2, 3)]
    size = sorted(_size(textpage, probe) for probe in probes)[1]
    base = sorted(_base(textpage, probe, shown) for probe in probes)[1]
    size = size or max(y1 - y0, 1.0)
    parts = _parts(textpage, piece, start, shown, _gaps(rects, size)) if len(rects) > 1 else ()
    return Line(text, x0, y0, x1, y1, base=base, size=size, parts=parts)


def _gaps(rects: Sequence[tuple[float, float, float, float]], size: float) -> list[float]:
    """Where the rectangles of a line leave a wide gap: the left edge of what comes behind it."""
    edges = sorted((x0, x1) for x0, _, x1, _ in rects)
    found: list[float] = []
    right = edges[0][1]
    for x0, x1 in edges:
        if x0 - right > _WIDE_GAP * size:
            found.append(x0)
        right = max(right, x1)
    return found


def _parts(
    textpage: Any,  # noqa: ANN401 - pypdfium2 ships no types
    piece: str,
    start: int,
    shown: Shown,
    gaps: Sequence[float],
) -> tuple[Line, ...]:
    """The pieces of a line between its gaps; none where it has no gap or stands upright."""
    if not gaps or shown.turn in (90, 270):
        return ()
    cuts = [0]
    for space in re.finditer(r"\s+(?=\S)", piece):
        left = textpage.get_charbox(start + space.end())[0]
        if any(abs(left - gap) < 1.0 for gap in gaps):
            cuts.append(space.end())
    if len(cuts) != len(gaps) + 1:
        return ()
    ends = [*cuts[1:], len(piece)]
    texts = (piece[a:b].rstrip() for a, b in zip(cuts, ends, strict=True))
    lines = (_line(textpage, text, start + a, shown) for a, text in zip(cuts, texts, strict=True))
    return tuple(line for line in lines if line is not None)


def _read(piece: str) -> str:
    mark = _MARK_AT_END.search(piece)
    piece = piece.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    text = clean(piece.translate(_BULLETS))
    return text.rstrip() + "\ufffe" if mark else text


def _size(textpage: Any, index: int) -> float:  # noqa: ANN401 - pypdfium2 ships no types
    """The font's height on the page: its nominal size through the text matrix."""
    from pypdfium2 import raw

    matrix = raw.FS_MATRIX()
    scale = 1.0
    if raw.FPDFText_GetMatrix(textpage, index, matrix):
        scale = float((matrix.c**2 + matrix.d**2) ** 0.5) or 1.0
    return float(raw.FPDFText_GetFontSize(textpage, index)) * scale


def _base(textpage: Any, index: int, shown: Shown) -> float:  # noqa: ANN401 - no types
    from pypdfium2 import raw

    x, y = ctypes.c_double(), ctypes.c_double()
    raw.FPDFText_GetCharOrigin(textpage, index, x, y)
    return shown.point(x.value, y.value)[1]


def is_readable(page: Any, lines: Sequence[Line]) -> bool:  # noqa: ANN401 - pypdfium2 ships no types
    """Whether the text layer is the page's text, or nothing on the page could hold more."""
    from pypdfium2 import raw

    text = "".join("".join(line.text.split()) for line in lines)
    wrong = len(_UNREADABLE.findall(text))
    if len(text) > _FEW and wrong * 2 < len(text):
        return True
    width, height = page.get_size()
    pictures = 0.0
    for item in page.get_objects(max_depth=3):
        if item.type == raw.FPDF_PAGEOBJ_IMAGE:
            x0, y0, x1, y1 = item.get_bounds()
            pictures += abs((x1 - x0) * (y1 - y0))
        elif item.type in {raw.FPDF_PAGEOBJ_PATH, raw.FPDF_PAGEOBJ_SHADING} and not text:
            pictures += width * height  # letters may be drawn as outlines
        elif wrong and item.type == raw.FPDF_PAGEOBJ_TEXT:
            pictures += width * height
    return bool(pictures < 0.3 * width * height)


def legible(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines without characters that have no meaning."""
    kept = (
        replace(line, text=line.text.replace("\ufffd", ""), parts=legible(line.parts))
        for line in lines
    )
    return tuple(line for line in kept if line.text.strip())


def bookmarks(document: Any) -> tuple[Bookmark, ...]:  # noqa: ANN401 - pypdfium2 ships no types
    """The outline in its order; entries that point at no page are left out."""
    marks: list[Bookmark] = []
    for entry in document.get_toc(max_depth=12):
        target = entry.get_dest()
        index = target.get_index() if target else None
        title = one_line(entry.get_title())
        if index is None or not title or not 0 <= index < len(document):
            continue
        marks.append(Bookmark(title, entry.level + 1, index + 1, _top(document, index, target)))
    return tuple(marks)


def _top(document: Any, index: int, target: Any) -> float:  # noqa: ANN401 - pypdfium2 ships no types
    from pypdfium2 import raw

    kind, position = target.get_view()
    at = {raw.PDFDEST_VIEW_XYZ: 1, raw.PDFDEST_VIEW_FITH: 0, raw.PDFDEST_VIEW_FITBH: 0}.get(kind)
    if at is None or len(position) <= at:
        return 0.0
    return max(0.0, float(document.get_page_size(index)[1]) - float(position[at]))


def own_title(document: Any) -> str | None:  # noqa: ANN401 - pypdfium2 ships no types
    """The title in the file's properties, unless a program wrote it there."""
    title = one_line(document.get_metadata_value("Title"))
    if len(title) < 2 or _NO_TITLE.match(title) or _UNREADABLE.search(title):
        return None
    return title
