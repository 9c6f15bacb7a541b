"""Pages as pictures: what is marked is what stands there, and the size is bounded."""

import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image
from reportlab.pdfgen.canvas import Canvas

from indexer.parse.drawing import LONGEST, MARK, OPACITY, as_png, image_pixels, mark, page_pixels
from indexer.parse.pdf import PdfParser
from indexer.pictures import parse_span
from indexer.text.stored import locate, store
from pipeline.errors import DamagedDocument, InvalidInput, NotFound
from pipeline.types import Box

LINES = (
    "The warranty lasts 24 months from delivery.",
    "The filter is replaced every 400 hours of work.",
    "Spare parts are held for ten years after the sale.",
)
YELLOW = tuple(round(255 * (1 - OPACITY) + part * OPACITY) for part in MARK)


def pdf(path: Path, size: tuple[float, float] = (595, 842), turned: int = 0) -> Path:
    canvas = Canvas(str(path), pagesize=size)
    top = size[0 if turned in (90, 270) else 1]  # reportlab names the size that is shown
    for _ in range(2):
        if turned:
            canvas.setPageRotation(turned)
        for at, line in enumerate(LINES):
            canvas.drawString(60, top - 100 - 120 * at, line)
        canvas.showPage()
    canvas.save()
    return path


@pytest.mark.parametrize("turned", [0, 90, 180, 270])
@pytest.mark.parametrize("line", range(3))
def test_a_quoted_line_is_marked_where_its_ink_is_and_no_other(
    tmp_path: Path, turned: int, line: int
) -> None:
    path = pdf(tmp_path / "a.pdf", turned=turned)
    stored = store(PdfParser().parse(path.read_bytes(), "a.pdf"))
    start = stored.text.index(LINES[line])
    page, boxes = locate(stored, start, start + len(LINES[line]))
    assert page == 1
    plain = page_pixels(path, "a.pdf", 1)
    shown = plain.copy()
    mark(shown, boxes)
    changed = (shown != plain).any(axis=2)
    ink = plain.min(axis=2) < 128
    upright = np.rot90(changed, turned // 90), np.rot90(ink, turned // 90)
    rows = [slice(int(r * 1.5) - 25, int(r * 1.5) + 10) for r in (100, 220, 340)]
    marked = [float(upright[0][row][upright[1][row]].mean()) for row in rows]
    assert marked[line] > 0.97
    assert sum(marked) == marked[line]
    assert (shown[changed & (plain.min(axis=2) == 255)] == YELLOW).all()


@given(
    boxes=st.lists(
        st.tuples(*[st.floats(-1, 2)] * 4).map(
            lambda p: Box(1, min(p[0], p[2]), min(p[1], p[3]), max(p[0], p[2]), max(p[1], p[3]))
        ),
        max_size=4,
    )
)
@settings(deadline=None, max_examples=40)
def test_boxes_that_overlap_mark_once_and_none_leaves_the_page(boxes: list[Box]) -> None:
    once = np.full((40, 30, 3), 255, dtype=np.uint8)
    mark(once, boxes)
    twice = np.full((40, 30, 3), 255, dtype=np.uint8)
    mark(twice, boxes * 2)
    assert (once == twice).all()
    assert {tuple(colour) for colour in once.reshape(-1, 3).tolist()} <= {YELLOW, (255, 255, 255)}


@pytest.mark.parametrize("size", [(595, 842), (14_000, 300), (300, 14_000), (3, 3), (1999.3, 4003)])
def test_a_picture_is_a_png_of_bounded_size_with_the_page_s_shape(
    tmp_path: Path, size: tuple[float, float]
) -> None:
    path = pdf(tmp_path / "a.pdf", size=size)
    picture = Image.open(io.BytesIO(as_png(page_pixels(path, "a.pdf", 2))))
    assert picture.format == "PNG"
    assert max(picture.size) <= LONGEST
    assert picture.width / picture.height == pytest.approx(size[0] / size[1], rel=0.03)
    assert max(picture.size) == pytest.approx(min(max(size) * 1.5, LONGEST), abs=1)


def test_a_page_that_is_not_there_names_how_many_there_are(tmp_path: Path) -> None:
    path = pdf(tmp_path / "a.pdf")
    for number in (0, -1, 3, 10**12):
        with pytest.raises(NotFound, match=rf"has 2 pages, there is no page {number}$"):
            page_pixels(path, "a.pdf", number)


def test_a_picture_is_drawn_upright_and_smaller_and_a_tiff_by_its_pages(tmp_path: Path) -> None:
    wide = Image.new("RGB", (3000, 1500), "white")
    wide.paste("navy", (0, 0, 300, 1500))
    turned = tmp_path / "a.jpg"
    exif = Image.Exif()
    exif[0x0112] = 6  # shown turned to the right
    wide.save(turned, exif=exif)
    shown = image_pixels(turned, "a.jpg", 1)
    assert shown.shape == (LONGEST, LONGEST // 2, 3)
    assert shown[100].mean(axis=0) == pytest.approx((0, 0, 128), abs=6)
    assert shown[1000].min() > 249
    scan = tmp_path / "a.tiff"
    pages = [Image.new("L", (40, 30), grey) for grey in (10, 250)]
    pages[0].save(scan, save_all=True, append_images=pages[1:])
    assert [int(image_pixels(scan, "a.tiff", n).mean()) for n in (1, 2)] == [10, 250]
    with pytest.raises(NotFound, match="has 2 pages, there is no page 3"):
        image_pixels(scan, "a.tiff", 3)
    cut = tmp_path / "cut.jpg"
    cut.write_bytes(turned.read_bytes()[:2000])
    with pytest.raises(DamagedDocument, match="damaged picture"):
        image_pixels(cut, "cut.jpg", 1)


def test_a_file_that_is_cut_off_says_so(tmp_path: Path) -> None:
    path = tmp_path / "cut.pdf"
    path.write_bytes(b"%PDF-1.4\n")
    with pytest.raises(DamagedDocument, match="damaged"):
        page_pixels(path, "cut.pdf", 1)


@given(start=st.integers(0, 10**10), length=st.integers(1, 10**9))
def test_a_span_reads_back_as_it_was_written(start: int, length: int) -> None:
    assert parse_span(f"{start}-{start + length}") == (start, start + length)


@pytest.mark.parametrize(
    "text", ["", "5", "-", "5-", "-5", "5-5", "9-5", "a-b", "1-2-3", "1_0-2_0", "²-5", " 1-5", "1-" + "9" * 99]
)  # fmt: skip
def test_anything_else_is_no_span(text: str) -> None:
    with pytest.raises(InvalidInput, match="start-end"):
        parse_span(text)
