"""The straight lines that a PDF page draws. Call it under `PDFIUM`."""

import ctypes
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import pairwise
from typing import Any

_MOST_OBJECTS = 20_000
_MOST_POINTS = 60_000
"""A page of more is a drawing: its lines are no frame of a table, and would take long to read."""
_DEEPEST = 3
_THICKEST = 3.0
"""Points: what is filled and no thicker is a line."""
_SHORTEST = 3.0
_SLANT = 0.5

Point = tuple[float, float]
_Matrix = tuple[float, float, float, float, float, float]
_SAME: _Matrix = (1.0, 0.0, 0.0, 1.0, 0.0, 0.0)


@dataclass(frozen=True, slots=True)
class Ruling:
    """A level or an upright line, in points from the page's top left: where it lies, and from where to where."""

    level: bool
    at: float
    low: float
    high: float


def rulings(page: Any, shown: Callable[[float, float], Point]) -> list[Ruling]:  # noqa: ANN401 - pypdfium2 ships no types
    """The page's level and upright lines, those of its forms included; none where it draws too many things.

    A line may be stroked, a thin rectangle that is filled, or a side of a stroked rectangle. `shown` says where a
    point of the page is shown.
    """
    from pypdfium2 import raw

    found: list[Ruling] = []
    points = 0
    for path, matrix in _paths(page):
        fill, stroke = ctypes.c_int(), ctypes.c_int()
        raw.FPDFPath_GetDrawMode(path, fill, stroke)
        count = raw.FPDFPath_CountSegments(path)
        points += count
        if points > _MOST_POINTS:
            return []
        for outline in _outlines(path, count, matrix):
            corners = [shown(x, y) for x, y in outline]
            if (thin := _thin(corners)) is not None and (stroke.value or fill.value):
                found.append(thin)
            elif stroke.value:
                found += filter(None, (_thin(side) for side in pairwise(corners)))
    return found


def _paths(page: Any) -> Iterator[tuple[Any, _Matrix]]:  # noqa: ANN401
    """Every path with the way from its coordinates to the page's; nothing where there are too many objects."""
    from pypdfium2 import raw

    left = _MOST_OBJECTS
    waiting: list[tuple[Any, _Matrix, int]] = [(None, _SAME, 0)]
    found: list[tuple[Any, _Matrix]] = []
    while waiting:
        form, around, depth = waiting.pop()
        if form is None:
            holder, counted, item_of = page, raw.FPDFPage_CountObjects, raw.FPDFPage_GetObject
        else:
            holder, counted, item_of = form, raw.FPDFFormObj_CountObjects, raw.FPDFFormObj_GetObject
        count = counted(holder)
        left -= max(count, 0)
        if left < 0:
            return
        for at in range(count):
            item = item_of(holder, at)
            kind = raw.FPDFPageObj_GetType(item)
            if kind == raw.FPDF_PAGEOBJ_PATH:
                found.append((item, _times(_matrix(item), around)))
            elif kind == raw.FPDF_PAGEOBJ_FORM and depth < _DEEPEST:
                waiting.append((item, _times(_matrix(item), around), depth + 1))
    yield from found


def _matrix(item: Any) -> _Matrix:  # noqa: ANN401
    from pypdfium2 import raw

    told = raw.FS_MATRIX()
    if not raw.FPDFPageObj_GetMatrix(item, told):
        return _SAME
    return told.a, told.b, told.c, told.d, told.e, told.f


def _times(one: _Matrix, two: _Matrix) -> _Matrix:
    """First `one`, then `two` (PDF 32000-1, 8.3.4)."""
    a, b, c, d, e, f = one
    k, m, n, p, q, r = two
    return (
        a * k + b * n,
        a * m + b * p,
        c * k + d * n,
        c * m + d * p,
        e * k + f * n + q,
        e * m + f * p + r,
    )


def _outlines(path: Any, count: int, matrix: _Matrix) -> Iterator[list[Point]]:  # noqa: ANN401
    """The corners of each part of a path, the first again where it is closed; parts with curves are left out."""
    from pypdfium2 import raw

    a, b, c, d, e, f = matrix
    x, y = ctypes.c_float(), ctypes.c_float()
    corners: list[Point] = []
    curved = False
    for at in range(count):
        segment = raw.FPDFPath_GetPathSegment(path, at)
        kind = raw.FPDFPathSegment_GetType(segment)
        if kind == raw.FPDF_SEGMENT_MOVETO:
            if len(corners) > 1 and not curved:
                yield corners
            corners, curved = [], False
        curved |= kind == raw.FPDF_SEGMENT_BEZIERTO
        raw.FPDFPathSegment_GetPoint(segment, x, y)
        corners.append((a * x.value + c * y.value + e, b * x.value + d * y.value + f))
        if raw.FPDFPathSegment_GetClose(segment):
            corners.append(corners[0])
    if len(corners) > 1 and not curved:
        yield corners


def _thin(corners: list[Point] | tuple[Point, ...]) -> Ruling | None:
    """The line that these corners are: one side, or all of a thin rectangle."""
    xs, ys = zip(*corners, strict=True)
    x0, x1, y0, y1 = min(xs), max(xs), min(ys), max(ys)
    most = _SLANT if len(corners) == 2 else _THICKEST
    if y1 - y0 <= most and x1 - x0 >= max(_SHORTEST, y1 - y0):
        return Ruling(at=(y0 + y1) / 2, low=x0, high=x1, level=True)
    if x1 - x0 <= most and y1 - y0 >= max(_SHORTEST, x1 - x0):
        return Ruling(at=(x0 + x1) / 2, low=y0, high=y1, level=False)
    return None
