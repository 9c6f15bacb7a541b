"""Stored text to chunks: along headings, paragraphs, list items, table rows and sentences.

First every element becomes pieces of at most `aim` tokens, cut at sentences and of even size; then neighbours are
joined while they stay under `aim`. A heading goes with what follows it.
"""

from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from math import ceil

from indexer.text.stored import Placed, Stored, Tables
from pipeline.analyze import passage_script
from pipeline.rows import Cell, cells, read, under_columns
from pipeline.sentences import sentences
from pipeline.types import ElementKind, Passage, Script, TableRows

Count = Callable[[str], int]
"""Tokens that the embedder reads of a passage of this text, prefix and end marks included."""

_STRUCTURE = "structure-3"
"""How text is cut; another name for every change that moves a boundary."""
_CONTEXT_TOKENS = 90
_GAP = " › "


@dataclass(frozen=True, slots=True)
class Chunking:
    """Sizes in tokens: chunks aim at `aim`; `most` is never passed, with prefix, title and context.

    A section shorter than `least` is joined with the next one. Measured in docs/quality.md.
    """

    aim: int = 280
    most: int = 480
    least: int = 100

    def __str__(self) -> str:
        return f"{_STRUCTURE}:{self.least}/{self.aim}/{self.most}"

    @classmethod
    def parse(cls, text: str) -> "Chunking | None":
        """The sizes that `str` wrote; None for those of another way to cut.

        >>> Chunking.parse(str(Chunking(60, 120, 20))) == Chunking(60, 120, 20)
        True
        """
        way, _, sizes = text.partition(":")
        if way != _STRUCTURE:
            return None
        least, aim, most = map(int, sizes.split("/"))
        return cls(aim, most, least)


@dataclass(frozen=True, slots=True)
class Cut:
    """A chunk before it has a key: `stored.text[start:end]`, its place, its context and its tables.

    `turns` are (offset in the text, page) of each page that begins inside it.
    """

    start: int
    end: int
    text: str
    page: int | None
    heading: tuple[str, ...]
    context: str
    script: Script
    tables: tuple[TableRows, ...] = ()
    turns: tuple[tuple[int, int], ...] = ()

    @property
    def passage(self) -> Passage:
        return Passage(self.context, read(self.text, self.tables).text)


@dataclass(frozen=True, slots=True)
class _Piece:
    start: int
    end: int
    tokens: int
    placed: Placed
    page: int | None
    opens: bool  # begins with a heading


def cut(stored: Stored, title: str | None, count: Count, chunking: Chunking) -> list[Cut]:
    """Every character of the body that is not white space stands in exactly one chunk."""
    cutter = _Cutter(stored, title, count, chunking)
    pieces = _glue([piece for p in stored.placed for piece in cutter.pieces(p)])
    return [made for joined in _join(pieces, chunking) for made in cutter.finish(joined)]


class _Cutter:
    def __init__(self, stored: Stored, title: str | None, count: Count, chunking: Chunking) -> None:
        self._tables = Tables(stored)
        self._starts = [placed.start for placed in stored.placed]
        self._pages = [placed.element.page for placed in stored.placed]
        self._text = stored.text
        self._title = title
        self._count = count
        self._base = count("")
        self._chunking = chunking

    def pieces(self, placed: Placed) -> Iterator[_Piece]:
        if placed.element.kind is ElementKind.FURNITURE:
            return
        heading, page = placed.element.kind is ElementKind.HEADING, placed.element.page
        tokens = self._tokens(placed.start, placed.end)
        if tokens <= self._chunking.aim:
            yield _Piece(placed.start, placed.end, tokens, placed, page, heading)
            return
        even = tokens / ceil(tokens / self._chunking.aim)
        start, size, end = placed.start, 0, placed.start
        for unit_start, unit_end in self._units(placed):
            unit = self._tokens(unit_start, unit_end)
            if size and size + unit / 2 > even:
                yield _Piece(start, end, size, placed, page, heading)
                start, size = unit_start, 0
            size += unit
            end = unit_end
        yield _Piece(start, end, size, placed, page, heading)

    def finish(self, pieces: Sequence[_Piece]) -> Iterator[Cut]:
        """The chunk of the joined pieces, or several where it is over the limit after all."""
        first = pieces[0].placed.element
        start, end = pieces[0].start, pieces[-1].end
        page, heading = pieces[0].page, first.heading
        context = self._context(pieces[0], start)
        body = self._text[start:end]
        tables = self._tables.within(start, end)
        if end - start < 2 or self._fits(context, body, tables):
            script = passage_script(f"{context}\n{body}")
            turns = self._turns(start, end)
            yield Cut(start, end, body, page, heading, context, script, tables, turns)
        elif len(pieces) > 1:
            middle = len(pieces) // 2
            yield from self.finish(pieces[:middle])
            yield from self.finish(pieces[middle:])
        else:
            for part_start, part_end in self._halves(start, end):
                part = _Piece(part_start, part_end, 0, pieces[0].placed, page, opens=False)
                yield from self.finish([part])

    def _turns(self, start: int, end: int) -> tuple[tuple[int, int], ...]:
        """Where other pages begin in `text[start:end]`."""
        first = bisect_right(self._starts, start) - 1
        page, found = self._pages[first], []
        for at in range(first + 1, bisect_left(self._starts, end)):
            turned = self._pages[at]
            if turned is not None and turned != page:
                found.append((self._starts[at] - start, turned))
                page = turned
        return tuple(found)

    def _fits(self, context: str, body: str, tables: Sequence[TableRows]) -> bool:
        """Whether models can read a chunk, both as it is embedded and as its sentences are scored."""
        scored = under_columns(context, body, tables)
        texts = {f"{context}\n{read(body, tables).text}", f"{scored.context}\n{scored.text}"}
        return all(self._count(text) <= self._chunking.most for text in texts)

    def _tokens(self, start: int, end: int) -> int:
        """What models read of a piece, in tokens: rows of tables with the names of their columns."""
        text = self._text[start:end]
        texts = {text, read(text, self._tables.within(start, end)).text}
        return max(1, *(self._count(each) - self._base for each in texts))

    def _units(self, placed: Placed) -> Iterator[tuple[int, int]]:
        """Rows of a table, lines of code, else sentences; what is too long for a chunk is halved."""
        for start, end in self._natural(placed):
            yield from self._small(start, end)

    def _natural(self, placed: Placed) -> Iterator[tuple[int, int]]:
        text = self._text[placed.start : placed.end]
        if placed.element.kind in (ElementKind.TABLE, ElementKind.CODE):
            offset = placed.start
            for line in text.split("\n"):
                if line.strip():
                    yield offset, offset + len(line)
                offset += len(line) + 1
            return
        for span in sentences(text):
            yield placed.start + span.start, placed.start + span.end

    def _small(self, start: int, end: int) -> Iterator[tuple[int, int]]:
        if end - start < 2 or self._tokens(start, end) <= self._chunking.aim:
            yield start, end
            return
        for half in self._halves(start, end):
            yield from self._small(*half)

    def _halves(self, start: int, end: int) -> list[tuple[int, int]]:
        """Two parts, cut nearest to the middle between two cells, at a comma or a space, else in the middle."""
        middle = (start + end) // 2
        reach = (end - start) // 4
        between = [
            after.start
            for before, after in self._neighbours(start, end)
            if before.end > start and abs(after.start - middle) <= reach
        ]
        if between:
            middle = min(between, key=lambda at: abs(at - middle))
            parts = [_trim(self._text, start, middle), _trim(self._text, middle, end)]
            return [(a, b) for a, b in parts if b > a]
        near = range(middle - reach, middle + reach)
        for marks in ("，；、,;", " \n\t"):
            cuts = [i + 1 for i in near if self._text[i] in marks]
            if cuts:
                middle = min(cuts, key=lambda i: abs(i - middle))
                break
        parts = [_trim(self._text, start, middle), _trim(self._text, middle, end)]
        return [(a, b) for a, b in parts if b > a]

    def _neighbours(self, start: int, end: int) -> Iterator[tuple[Cell, Cell]]:
        """Filled cells of tables beside each other in a piece, in offsets of the stored text."""
        for table in self._tables.within(start, end):
            moved = TableRows(table.start + start, table.end + start, table.grid, table.first)
            filled = [cell for cell in cells(self._text, moved) if cell.start < cell.end]
            yield from pairwise(filled)

    def _context(self, piece: _Piece, start: int) -> str:
        """Title and heading path.

        The innermost headings stay when the path is long; a heading that the chunk begins with is left out.
        """
        element = piece.placed.element
        path = [part for part in (self._title, *element.heading) if part]
        opening = self._text[start : piece.end].split("\n")[:8] if piece.opens else []
        path = [part for part in dict.fromkeys(path) if part not in opening]
        lines = [_GAP.join(path)] if path else []
        while path and self._tokens_of("\n".join(lines)) > _CONTEXT_TOKENS:
            path = path[1:]
            lines[0:1] = [_GAP.join(path)] if path else []
        context = "\n".join(lines)
        return context if self._tokens_of(context) <= _CONTEXT_TOKENS else ""

    def _tokens_of(self, text: str) -> int:
        return self._count(text) - self._base


def _glue(pieces: Sequence[_Piece]) -> list[_Piece]:
    """A heading and the piece behind it become one, and take the place of what follows.

    Of two headings only those of one page: a page that is only a title keeps its own page.
    """
    glued: list[_Piece] = []
    for piece in pieces:
        if glued and _leads(glued[-1], piece):
            title = glued.pop()
            tokens = title.tokens + piece.tokens
            piece = _Piece(title.start, piece.end, tokens, piece.placed, title.page, opens=True)
        glued.append(piece)
    return glued


def _leads(last: _Piece, piece: _Piece) -> bool:
    if last.placed.element.kind is not ElementKind.HEADING:
        return False
    return piece.placed.element.kind is not ElementKind.HEADING or piece.page == last.page


def _join(pieces: Sequence[_Piece], chunking: Chunking) -> Iterator[list[_Piece]]:
    joined: list[_Piece] = []
    size = 0
    for piece in pieces:
        if joined and not _goes_on(joined[-1], size, piece, chunking):
            yield joined
            joined, size = [], 0
        joined.append(piece)
        size += piece.tokens
    if joined:
        yield joined


def _goes_on(last: _Piece, size: int, piece: _Piece, chunking: Chunking) -> bool:
    """Whether a chunk of `size` tokens takes the next piece: not past the aim, and not into another section or page
    once it is long enough to stand alone."""
    if size + piece.tokens > chunking.aim:
        return False
    new_place = piece.opens or piece.page != last.page
    return not (new_place and size >= chunking.least)


def _trim(text: str, start: int, end: int) -> tuple[int, int]:
    piece = text[start:end]
    left = len(piece) - len(piece.lstrip())
    return start + left, start + max(left, len(piece.rstrip()))
