"""What stands in the cells of a page's tables: each character goes into the cell that it is drawn in."""

from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

from indexer.parse.lines import Line, Ruled
from indexer.parse.mend import HYPHENS
from indexer.parse.ruled import Cell, Frame

_EDGE = 2.0
"""Points that a line may stand out of its table."""
_FULL = 0.2
"""The least share of cells with text: fewer are a form's or a chart's lines."""
_LONGEST = 1_500
"""Characters of a cell: more are a page's text in a frame."""
_MOST_SPREAD = 200_000
"""Characters of a table, with those that merged cells say again in every row."""

Read = Callable[[str], str]
Middle = Callable[[int], tuple[float, float]]


@dataclass(frozen=True, slots=True)
class Found:
    """A line, the page's characters that it was made of, and the number of the first."""

    line: Line
    piece: str
    start: int


@dataclass(frozen=True, slots=True)
class _Written:
    """A line of one cell."""

    base: float
    x0: float
    text: str


def tabled(
    found: Sequence[Found], frames: Sequence[Frame], middle: Middle, read: Read
) -> tuple[list[Line], tuple[Ruled, ...]]:
    """The lines, those in tables with the number of theirs, and the tables.

    `middle` gives the middle of a character by its number, `read` a line's text from its characters. What is drawn
    like a table is one only if every character of its lines is in a cell, and its cells are filled like a table's.
    """
    lines = [[each.line] for each in found]
    tables: list[Ruled] = []
    for frame in frames:
        parted = _parted(found, lines, frame)
        if parted is None or not parted:
            continue
        written = _written([(at, found[at]) for at in parted], frame, middle, read)
        inside = [piece for pieces in parted.values() for piece, within in pieces if within]
        if not _the_same(inside, written) or not _like_a_table(frame, written):
            continue
        tables.append(_ruled(frame, written))
        for at, pieces in parted.items():
            lines[at] = [
                _in_table(piece, len(tables)) if within else piece for piece, within in pieces
            ]
    return [piece for pieces in lines for piece in pieces], tuple(tables)


def _in_table(line: Line, number: int) -> Line:
    parts = tuple(replace(part, table=number) for part in line.parts)
    return replace(line, parts=parts, table=number)


def _parted(
    found: Sequence[Found], lines: Sequence[Sequence[Line]], frame: Frame
) -> dict[int, list[tuple[Line, bool]]] | None:
    """The lines with something in the frame by their place, in pieces that are in it or not.

    None where a piece is both.
    """
    parted: dict[int, list[tuple[Line, bool]]] = {}
    for at in range(len(found)):
        pieces: list[tuple[Line, bool]] = []
        for line in lines[at]:
            if _lies(line, frame) is None and line.parts:
                pieces += ((part, _lies(part, frame)) for part in line.parts)  # type: ignore[misc]
            else:
                pieces.append((line, _lies(line, frame)))  # type: ignore[arg-type]
        if any(within is None for _, within in pieces):
            return None
        if any(within for _, within in pieces):
            parted[at] = pieces
    return parted


def _lies(line: Line, frame: Frame) -> bool | None:
    """Whether a line lies in the frame, and in no table yet; None where it reaches out of it."""
    if line.table:
        return False
    left, right, top, bottom = frame.xs[0], frame.xs[-1], frame.ys[0], frame.ys[-1]
    height = (line.y0 + line.y1) / 2
    if not top <= height <= bottom or line.x1 <= left or line.x0 >= right:
        return False
    return True if left - _EDGE <= line.x0 and line.x1 <= right + _EDGE else None


def _written(
    found: Sequence[tuple[int, Found]], frame: Frame, middle: Middle, read: Read
) -> dict[Cell, list[_Written]]:
    """The lines of each cell, from the top."""
    owner = {
        (i, j): cell
        for cell in frame.cells
        for i in range(cell.row, cell.row + cell.down)
        for j in range(cell.column, cell.column + cell.across)
    }
    pieces: dict[tuple[Cell, int], list[int]] = {}
    for number, each in found:
        last: Cell | None = None
        for at, character in enumerate(each.piece):
            if character.isspace():
                continue
            if character not in HYPHENS:  # a mark has no place of its own
                place = frame.place(*middle(each.start + at))
                last = owner[place] if place is not None else None
            if last is not None:
                pieces.setdefault((last, number), []).append(at)
    by_number = dict(found)
    written: dict[Cell, list[_Written]] = {}
    for (cell, number), places in pieces.items():
        each = by_number[number]
        text = read(_with_gaps(each.piece, places))
        if text.strip():
            x, _ = middle(each.start + places[0])
            written.setdefault(cell, []).append(_Written(each.line.base, x, text))
    for lines in written.values():
        lines.sort(key=lambda line: (round(line.base / 2), line.x0))
    return written


def _with_gaps(piece: str, places: Sequence[int]) -> str:
    """These characters of a line; a space where one stands between two of them."""
    out = [piece[places[0]]]
    for before, at in pairwise(places):
        if any(character.isspace() for character in piece[before + 1 : at]):
            out.append(" ")
        out.append(piece[at])
    return "".join(out)


def _the_same(lines: Sequence[Line], written: dict[Cell, list[_Written]]) -> bool:
    """Whether the cells hold every character of the lines, and no other."""
    there = Counter("".join("".join(line.text.split()) for line in lines))
    here = Counter(
        "".join("".join(line.text.split()) for lines in written.values() for line in lines)
    )
    for mark in HYPHENS:
        there.pop(mark, None)
        here.pop(mark, None)
    return there == here


def _like_a_table(frame: Frame, written: dict[Cell, list[_Written]]) -> bool:
    lengths = {cell: sum(len(line.text) for line in lines) for cell, lines in written.items()}
    if not lengths or max(lengths.values()) > _LONGEST:
        return False
    if sum(length * cell.down for cell, length in lengths.items()) > _MOST_SPREAD:
        return False
    in_row = Counter(cell.row for cell in written)
    if len(in_row) < 2 or max(in_row.values()) < 2:
        return False
    return len(written) >= _FULL * len(frame.cells)


def _ruled(frame: Frame, written: dict[Cell, list[_Written]]) -> Ruled:
    """Cells merged over several rows say their text in each, those over several columns in the first."""
    rows: list[list[tuple[str, ...]]] = [
        [() for _ in range(len(frame.xs) - 1)] for _ in range(len(frame.ys) - 1)
    ]
    for cell, lines in written.items():
        for row in range(cell.row, cell.row + cell.down):
            rows[row][cell.column] = tuple(line.text for line in lines)
    return Ruled(tuple(map(tuple, rows)), frame.xs[0], frame.xs[-1], frame.ys)
