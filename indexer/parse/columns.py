"""Columns of prose that a file draws row by row, put into the order in which they are read.

Most programs draw one column after the other, and their order is kept. Some, and every recognised picture, give the
first row of all columns, then the second: such rows are parted at the gutter, and each column is read to its end before
the next. A table is drawn the same way and must stay in rows; its cells are ragged or drawn whole, where the lines of a
column fill it and alternate line by line.
"""

from collections.abc import Sequence
from itertools import groupby, pairwise
from statistics import median

from indexer.parse.lines import Line

_LEAST_LINES = 4
_LEAST_JUMPS = 3
_NARROWEST = 10.0
"""A column's least width, in font heights."""
_GUTTER = 0.7
"""A gutter's least width, in font heights."""
_FULL = 0.65
"""The least median share of a column's width that its lines fill."""
_RUN = 2
"""Lines of one side that usually follow one another: one, or two where that side is two columns; more in a table."""
_MOST_SPANNING = 0.5


def in_reading_order(lines: Sequence[Line]) -> tuple[Line, ...]:
    """The lines of a page, those of interleaved columns column by column; other pages unchanged.

    Lines that span the columns part the page: what stands above one comes before it, in all columns.
    """
    pieces = [piece for line in lines for piece in (line.parts or (line,))]
    if sum(_jumps(before, after) for before, after in pairwise(pieces)) < _LEAST_JUMPS:
        return tuple(lines)
    bands = _bands(pieces)
    if bands is None:
        return tuple(lines)
    return tuple(piece for column in bands for piece in column)


def _jumps(before: Line, after: Line) -> bool:
    """Whether the next piece stands beside the last one rather than below it."""
    return after.x0 >= before.x1 and after.base < before.base + 0.5 * after.size


def _bands(pieces: Sequence[Line]) -> list[list[Line]] | None:
    """Columns and the lines that span them, in reading order; None where these are no columns of prose."""
    gutter = _gutter(pieces)
    if gutter is None:
        return None
    left = [piece for piece in pieces if piece.x1 <= gutter]
    right = [piece for piece in pieces if piece.x0 >= gutter]
    sides = [piece.x0 >= gutter for piece in pieces if piece.x1 <= gutter or piece.x0 >= gutter]
    runs = [(side, len(list(run))) for side, run in groupby(sides)]
    usual = sorted(median(run for of, run in runs if of is side) for side in (False, True))
    if len(runs) < 2 * _LEAST_JUMPS or usual[0] > 1 or usual[1] > _RUN:
        return None
    spanning = sorted(
        (piece for piece in pieces if piece.x0 < gutter < piece.x1), key=lambda piece: piece.base
    )
    columns: list[list[Line]] = []
    for side in (left, right):
        nested = _bands(side)
        if nested is None and not _is_prose(side):
            return None
        columns += nested or [side]
    found: list[list[Line]] = []
    above = float("-inf")
    for line in [*spanning, None]:
        below = float("inf") if line is None else line.base
        found += ([piece for piece in column if above <= piece.base < below] for column in columns)
        found.append([] if line is None else [line])
        above = below
    return [column for column in found if column]


def _gutter(pieces: Sequence[Line]) -> float | None:
    """Where the page parts best: the fewest lines across, then the widest strip without any."""
    size = median(piece.size for piece in pieces)
    best: tuple[int, float, float] | None = None
    starts = sorted({round(piece.x0, 1) for piece in pieces})
    for start in starts[1:]:
        right = [piece for piece in pieces if piece.x0 >= start - 0.1]
        left = [piece for piece in pieces if piece.x1 <= start - _GUTTER * size]
        if min(len(left), len(right)) < _LEAST_LINES:
            continue
        across = len(pieces) - len(left) - len(right)
        strip = start - max(piece.x1 for piece in left)
        if across <= _MOST_SPANNING * len(pieces):
            found = (across, -strip, start - 0.1)
            best = found if best is None else min(best, found)
    return best[2] if best else None


def _is_prose(column: Sequence[Line]) -> bool:
    """Whether its lines fill a column that is wide enough for sentences."""
    width = max(piece.x1 for piece in column) - min(piece.x0 for piece in column)
    size = median(piece.size for piece in column)
    full = median(piece.x1 - piece.x0 for piece in column)
    return len(column) >= _LEAST_LINES and width >= _NARROWEST * size and full >= _FULL * width
