"""Tables with drawn lines: where their cells are, from the lines alone."""

from bisect import bisect_right
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise

from indexer.parse.drawn import Ruling

_NEAR = 3.0
"""Points: lines this near meet, and those this near to each other are one."""
_WALL = 0.6
"""The share of a cell's side that a line must cover to part it from the next."""
_MOST_CELLS = 20_000
_MOST_CROSSINGS = 1_000_000
"""Pairs of lines that may be looked at; a page with more is a drawing."""


@dataclass(frozen=True, slots=True)
class Cell:
    """A cell of a table: its first row and column from 0, and how many of them it covers."""

    row: int
    column: int
    down: int = 1
    across: int = 1


@dataclass(frozen=True, slots=True)
class Frame:
    """The lines of a table: `xs` part its columns and `ys` its rows, ascending, in points of the page.

    Cell (i, j) without merging is between ys[i], ys[i + 1] and xs[j], xs[j + 1].
    """

    xs: tuple[float, ...]
    ys: tuple[float, ...]
    cells: tuple[Cell, ...]

    def place(self, x: float, y: float) -> tuple[int, int] | None:
        """The row and column of a point, counted as if no cells were merged; None outside, a line's width away."""
        if not (self.xs[0] - _NEAR <= x <= self.xs[-1] + _NEAR):
            return None
        if not (self.ys[0] - _NEAR <= y <= self.ys[-1] + _NEAR):
            return None
        return bisect_right(self.ys[1:-1], y), bisect_right(self.xs[1:-1], x)


def frames(rulings: Sequence[Ruling]) -> list[Frame]:
    """The tables that lines draw, from the top: two rows and two columns at least, every cell a rectangle.

    Lines that meet belong together. Where the left and the right side of a table are open, its level lines say how
    wide it is.
    """
    lines = [*_joined(ruling for ruling in rulings if ruling.level)]
    posts = [*_joined(ruling for ruling in rulings if not ruling.level)]
    if len(lines) * len(posts) > _MOST_CROSSINGS:
        return []
    found = [_frame(levels, uprights) for levels, uprights in _meeting(lines, posts)]
    return sorted((frame for frame in found if frame), key=lambda frame: (frame.ys[0], frame.xs[0]))


def _joined(rulings: Iterator[Ruling] | Sequence[Ruling]) -> Iterator[Ruling]:
    """Pieces of one line as one line."""
    rows: list[list[Ruling]] = []
    for ruling in sorted(rulings, key=lambda each: each.at):
        if rows and ruling.at - rows[-1][0].at <= _NEAR:
            rows[-1].append(ruling)
        else:
            rows.append([ruling])
    for row in rows:
        at = sum(piece.at for piece in row) / len(row)
        pieces = sorted(row, key=lambda piece: piece.low)
        low, high = pieces[0].low, pieces[0].high
        for piece in pieces[1:]:
            if piece.low > high + _NEAR:
                yield Ruling(piece.level, at, low, high)
                low = piece.low
            high = max(high, piece.high)
        yield Ruling(pieces[0].level, at, low, high)


def _meeting(
    lines: Sequence[Ruling], posts: Sequence[Ruling]
) -> Iterator[tuple[list[Ruling], list[Ruling]]]:
    """Level and upright lines that meet, directly or by others."""
    touched: dict[int, list[int]] = defaultdict(list)
    of_post: dict[int, list[int]] = defaultdict(list)
    for i, line in enumerate(lines):
        for j, post in enumerate(posts):
            if _covers(line, post.at) and _covers(post, line.at):
                touched[i].append(j)
                of_post[j].append(i)
    left = set(touched)
    while left:
        waiting, mine, uprights = [left.pop()], set[int](), set[int]()
        while waiting:
            i = waiting.pop()
            mine.add(i)
            for j in touched[i]:
                if j not in uprights:
                    uprights.add(j)
                    waiting += (other for other in of_post[j] if other not in mine)
        left -= mine
        yield [lines[i] for i in sorted(mine)], [posts[j] for j in sorted(uprights)]


def _covers(line: Ruling, at: float) -> bool:
    return line.low - _NEAR <= at <= line.high + _NEAR


def _frame(lines: Sequence[Ruling], posts: Sequence[Ruling]) -> Frame | None:
    ys = _apart([line.at for line in lines])
    xs = _apart(
        [
            min(line.low for line in lines),
            *(post.at for post in posts),
            max(line.high for line in lines),
        ]
    )
    rows, columns = len(ys) - 1, len(xs) - 1
    if rows < 2 or columns < 2 or rows * columns > _MOST_CELLS:
        return None
    below = _walls(lines, ys, xs)
    beside = _walls(posts, xs, ys)
    cells = _cells(rows, columns, below, beside)
    if cells is None or len({cell.row for cell in cells}) < 2:
        return None
    if len({cell.column for cell in cells}) < 2:
        return None
    return Frame(tuple(xs), tuple(ys), cells)


def _apart(places: Sequence[float]) -> list[float]:
    """Sorted, those nearly the same only once."""
    found: list[float] = []
    for place in sorted(places):
        if not found or place - found[-1] > _NEAR:
            found.append(place)
    return found


def _walls(
    lines: Sequence[Ruling], places: Sequence[float], ends: Sequence[float]
) -> set[tuple[int, int]]:
    """(i, j) where a line lies at places[i] along most of the stretch from ends[j] to ends[j + 1]."""
    found: set[tuple[int, int]] = set()
    for line in lines:
        i = min(range(len(places)), key=lambda at: abs(places[at] - line.at))
        for j, (low, high) in enumerate(pairwise(ends)):
            if min(high, line.high) - max(low, line.low) >= _WALL * (high - low):
                found.add((i, j))
    return found


def _cells(
    rows: int, columns: int, below: set[tuple[int, int]], beside: set[tuple[int, int]]
) -> tuple[Cell, ...] | None:
    """The cells between walls, row by row; None where one is no rectangle."""
    free = [[True] * columns for _ in range(rows)]
    found: list[Cell] = []
    for row in range(rows):
        for column in range(columns):
            if not free[row][column]:
                continue
            across = 1
            while column + across < columns and (column + across, row) not in beside:
                across += 1
            down = 1
            while row + down < rows and (row + down, column) not in below:
                down += 1
            inside = [(i, j) for i in range(row, row + down) for j in range(column, column + across)]  # fmt: skip
            if not all(free[i][j] for i, j in inside):
                return None
            if any((i, j) in below for i, j in inside if i > row):
                return None
            if any((j, i) in beside for i, j in inside if j > column):
                return None
            for i, j in inside:
                free[i][j] = False
            if _open(row, column, down, across, rows, columns, below, beside):
                return None
            found.append(Cell(row, column, down, across))
    return tuple(found)


def _open(
    row: int,
    column: int,
    down: int,
    across: int,
    rows: int,
    columns: int,
    below: set[tuple[int, int]],
    beside: set[tuple[int, int]],
) -> bool:
    """Whether a side towards another cell has a gap: then the cell is no rectangle of its own."""
    right, under = column + across, row + down
    sides = right < columns and any((right, i) not in beside for i in range(row, under))
    return sides or (under < rows and any((under, j) not in below for j in range(column, right)))
