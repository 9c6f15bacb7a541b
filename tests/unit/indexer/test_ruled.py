"""Tables of a PDF with drawn lines: which lines are a table, and what stands in its cells."""

import io
from collections.abc import Callable, Sequence

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from indexer.parse.drawn import Ruling
from indexer.parse.pdf import PdfParser
from indexer.parse.ruled import Cell, Frame, frames
from pipeline.types import Element, ElementKind

X, Y, WIDE, HIGH = 100.0, 500.0, 80.0, 24.0
ROWS = (("Part", "Price"), ("Bolt", "12.50"), ("Nut", "3.00"))
UPRIGHT = {
    90: (0, 1, -1, 0, 842, 0),
    180: (-1, 0, 0, -1, 595, 842),
    270: (0, -1, 1, 0, 0, 595),
}
"""How a page that is turned clockwise is drawn so that it is shown upright."""
Draw = Callable[[Canvas], None]


def page(*drawn: Draw, pages: int = 1, turn: int = 0) -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(595, 842))
    for _ in range(pages):
        canvas.setPageRotation(turn)
        canvas.setFont("Helvetica", 10)
        if turn:
            canvas.transform(*UPRIGHT[turn])
        for draw in drawn:
            draw(canvas)
        canvas.showPage()
    canvas.save()
    return buffer.getvalue()


def words(rows: Sequence[Sequence[str]] = ROWS, *, top: float = Y) -> Draw:
    def draw(canvas: Canvas) -> None:
        for i, row in enumerate(rows):
            for j, text in enumerate(row):
                canvas.drawString(X + j * WIDE + 4, top - (i + 1) * HIGH + 8, text)

    return draw


def edges(rows: int, columns: int, top: float = Y) -> tuple[list[float], list[float]]:
    return [X + j * WIDE for j in range(columns + 1)], [top - i * HIGH for i in range(rows + 1)]


def stroked(rows: int = 3, columns: int = 2, *, top: float = Y, sides: bool = True) -> Draw:
    def draw(canvas: Canvas) -> None:
        xs, ys = edges(rows, columns, top)
        for y in ys:
            canvas.line(xs[0], y, xs[-1], y)
        for x in xs if sides else xs[1:-1]:
            canvas.line(x, ys[0], x, ys[-1])

    return draw


def filled(canvas: Canvas) -> None:
    """As word processors do: thin rectangles, cell by cell."""
    xs, ys = edges(3, 2)
    for y in ys:
        for x in xs[:-1]:
            canvas.rect(x, y - 0.25, WIDE, 0.5, stroke=0, fill=1)
    for x in xs:
        for y in ys[1:]:
            canvas.rect(x - 0.25, y, 0.5, HIGH, stroke=0, fill=1)


def boxed(canvas: Canvas) -> None:
    xs, ys = edges(3, 2)
    for y in ys[1:]:
        for x in xs[:-1]:
            canvas.rect(x, y, WIDE, HIGH)


def in_a_form(canvas: Canvas) -> None:
    if not canvas.hasForm("table"):
        canvas.beginForm("table")
        canvas.translate(-20, 30)
        stroked(top=Y - 30)(canvas)
        canvas.endForm()
    canvas.translate(20, 0)
    canvas.doForm("table")
    canvas.translate(-20, 0)


def one_path(canvas: Canvas) -> None:
    xs, ys = edges(3, 2)
    canvas.grid(xs, ys)


def elements(data: bytes) -> list[Element]:
    return list(PdfParser().parse(data, "a.pdf").elements)


def tables(data: bytes) -> list[Element]:
    return [each for each in elements(data) if each.kind is ElementKind.TABLE]


@pytest.mark.parametrize(
    "lines",
    [stroked(), stroked(sides=False), filled, boxed, in_a_form, one_path],
    ids=["lines", "open sides", "thin rectangles", "boxes", "a form", "one path"],
)
@pytest.mark.parametrize("turn", [0, 90, 180, 270])
def test_a_table_is_read_by_its_lines_however_they_are_drawn(lines: Draw, turn: int) -> None:
    [table] = tables(page(lines, words(), turn=turn))
    assert table.text == "Part | Price\nBolt | 12.50\nNut | 3.00"
    assert table.columns == ("Part", "Price")
    assert table.starts == (0, 13, 26)
    for at, box in enumerate(table.boxes):
        assert box.x0 == pytest.approx(X / 595, abs=0.001)
        assert box.x1 == pytest.approx((X + 2 * WIDE) / 595, abs=0.001)
        assert box.y0 == pytest.approx((842 - Y + at * HIGH) / 842, abs=0.001)
        assert box.y1 == pytest.approx((842 - Y + (at + 1) * HIGH) / 842, abs=0.001)


def test_text_around_a_table_stays_where_it_stands() -> None:
    def above(canvas: Canvas) -> None:
        canvas.drawString(X, Y + 40, "Prices of this year.")

    def below(canvas: Canvas) -> None:
        canvas.drawString(X, Y - 120, "All of them without tax.")

    drawn = page(stroked(), above, words(), below)
    told = [(e.kind, e.text) for e in elements(drawn)]
    assert told == [
        (ElementKind.PARAGRAPH, "Prices of this year."),
        (ElementKind.TABLE, "Part | Price\nBolt | 12.50\nNut | 3.00"),
        (ElementKind.PARAGRAPH, "All of them without tax."),
    ]


def test_lines_of_a_cell_are_one_text_and_a_merged_cell_says_it_in_every_row() -> None:
    def draw(canvas: Canvas) -> None:
        xs, ys = edges(3, 2)
        canvas.line(xs[0], ys[0], xs[-1], ys[0])
        canvas.line(xs[0], ys[1], xs[-1], ys[1])
        canvas.line(xs[1], ys[2], xs[-1], ys[2])
        canvas.line(xs[0], ys[3], xs[-1], ys[3])
        for x in xs:
            canvas.line(x, ys[0], x, ys[-1])
        canvas.drawString(X + 4, Y - 2 * HIGH + 4, "Bolts of")
        canvas.drawString(X + 4, Y - 2 * HIGH - 8, "all kinds")
        words((("Part", "Price"), ("", "12.50"), ("", "3.00")))(canvas)

    [table] = tables(page(draw))
    assert table.text == "Part | Price\nBolts of all kinds | 12.50\nBolts of all kinds | 3.00"


@pytest.mark.parametrize("gap", [0.0, 1.5], ids=["touching", "with gaps"])
def test_text_from_cell_to_cell_without_a_gap_is_parted_at_the_line(gap: float) -> None:
    def draw(canvas: Canvas) -> None:
        for i, (left, right) in enumerate(ROWS):
            y = Y - (i + 1) * HIGH + 8
            width = canvas.stringWidth(left, "Helvetica", 10)
            canvas.drawString(X + WIDE - width - 0.5 - gap, y, left)
            canvas.drawString(X + WIDE + 0.5 + gap, y, right)

    [table] = tables(page(stroked(), draw))
    assert table.text == "Part | Price\nBolt | 12.50\nNut | 3.00"


def note(canvas: Canvas) -> None:
    canvas.rect(X, Y - 100, 300, 100)
    canvas.drawString(X + 10, Y - 40, "Attention: the cover is hot.")
    canvas.drawString(X + 10, Y - 60, "Wait until it is cold.")


def chart(canvas: Canvas) -> None:
    stroked(6, 6)(canvas)
    for i in range(7):
        canvas.drawRightString(X - 6, Y - i * HIGH, str(60 - 10 * i))
    canvas.drawString(X + 2 * WIDE + 4, Y - 2 * HIGH + 8, "sales")
    canvas.drawString(X + 3 * WIDE + 4, Y - 3 * HIGH + 8, "costs")


def underlined(canvas: Canvas) -> None:
    for i in range(4):
        canvas.drawString(X, Y - i * HIGH, "A link that is underlined")
        canvas.line(X, Y - i * HIGH - 2, X + 120, Y - i * HIGH - 2)


def flow(canvas: Canvas) -> None:
    for at, text in enumerate(("start", "work", "end")):
        canvas.rect(X, Y - at * 60, 100, 30)
        canvas.drawString(X + 10, Y - at * 60 + 10, text)
        canvas.line(X + 50, Y - at * 60, X + 50, Y - at * 60 - 30)


@pytest.mark.parametrize("draw", [note, chart, underlined, flow])
def test_what_has_lines_and_is_no_table_is_text(draw: Draw) -> None:
    plain = elements(page(draw))
    assert plain
    assert ElementKind.TABLE not in {element.kind for element in plain}


def test_the_frame_of_a_running_header_is_furniture_and_the_table_below_goes_on() -> None:
    def letterhead(canvas: Canvas) -> None:
        number = canvas.getPageNumber()
        stroked(2, 2, top=830)(canvas)
        words((("Quality manual", "QM-7"), ("Version 3", f"Page {number}")), top=830)(canvas)

    def part(canvas: Canvas) -> None:
        number = canvas.getPageNumber()
        words((("Part", "Price"), (f"Bolt {number}", f"{number}.50")))(canvas)

    made = elements(page(letterhead, stroked(2, 2), part, pages=4))
    assert {e.text for e in made if e.kind is ElementKind.TABLE} == {
        f"Part | Price\nBolt {n} | {n}.50" for n in range(1, 5)
    }
    furniture = [e.text for e in made if e.kind is ElementKind.FURNITURE]
    assert sum("Quality manual" in text for text in furniture) == 4


@st.composite
def merged(draw: st.DrawFn) -> tuple[int, int, tuple[Cell, ...]]:
    """Rows, columns, and cells that fill them; every row and every column has a line of its own."""
    rows, columns = draw(st.integers(2, 6)), draw(st.integers(2, 6))
    free = {(i, j) for i in range(rows) for j in range(columns)}
    cells = []
    for i in range(rows):
        for j in range(columns):
            if (i, j) not in free:
                continue
            down, across = 1, 1
            if draw(st.integers(0, 4)) == 0:
                down, across = draw(st.integers(1, 2)), draw(st.integers(1, 2))
            inside = {(i + a, j + b) for a in range(down) for b in range(across)}
            if not inside <= free:
                down, across, inside = 1, 1, {(i, j)}
            free -= inside
            cells.append(Cell(i, j, down, across))
    return rows, columns, tuple(cells)


@given(merged(), st.integers(0, 2), st.randoms(use_true_random=False))
@settings(deadline=None, max_examples=60)
def test_the_cells_of_any_table_are_found_again(made, apart: int, random) -> None:
    rows, columns, cells = made
    if len({c.row for c in cells}) < rows or len({c.column for c in cells}) < columns:
        return  # a line that parts nothing is not there
    drawn = []
    for cell in cells:
        x0, y0 = 50 + cell.column * 40, 50 + cell.row * 20
        x1, y1 = x0 + cell.across * 40, y0 + cell.down * 20
        shift = apart * 0.5
        drawn += [
            Ruling(at=y0 + shift, low=x0, high=x1, level=True),
            Ruling(at=y1, low=x0 + shift, high=x1 - shift, level=True),
            Ruling(at=x0, low=y0, high=y1, level=False),
            Ruling(at=x1 + shift, low=y0 + shift, high=y1, level=False),
        ]
    random.shuffle(drawn)
    [frame] = frames(drawn)
    assert isinstance(frame, Frame)
    assert frame.cells == cells
    assert (len(frame.ys), len(frame.xs)) == (rows + 1, columns + 1)
    for cell in cells:
        assert frame.place(55 + cell.column * 40, 55 + cell.row * 20) == (cell.row, cell.column)


def test_a_page_of_very_many_lines_is_a_drawing_and_costs_little() -> None:
    hatched = [Ruling(at=float(4 * n), low=0, high=9e4, level=True) for n in range(2_000)]
    hatched += [Ruling(at=float(4 * n), low=0, high=9e4, level=False) for n in range(2_000)]
    assert frames(hatched) == []
