"""Pictures are read page by page, upright, and never decoded where they are too large."""

import io
import struct
import zlib
from pathlib import Path

import numpy as np
import pypdfium2
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image, ImageDraw, ImageFont

from indexer.parse.images import ImageParser, cuts
from indexer.parse.lines import Line
from indexer.parse.ocr import Pixels, RapidRecognizer
from indexer.parse.parser import build_parser
from pipeline.errors import DamagedDocument, EmptyDocument, TooLarge
from pipeline.types import Element

HANDBOOK = Path("../shared/data/documents/Debian新维护者手册.pdf")
ENGINE = RapidRecognizer()
PARSER = ImageParser(recognizer=ENGINE)


class Ink:
    """Says for every picture where its ink stands: one line, in points."""

    def __init__(self) -> None:
        self.shapes: list[tuple[int, ...]] = []

    def read(self, pixels: Pixels, scale: float) -> list[Line]:
        self.shapes.append(pixels.shape)
        grey = pixels.mean(axis=2) if pixels.ndim == 3 else pixels
        dark = grey < grey.max() / 2
        rows, columns = np.flatnonzero(dark.any(axis=1)), np.flatnonzero(dark.any(axis=0))
        x0, x1 = columns[0] / scale, (columns[-1] + 1) / scale
        y0, y1 = rows[0] / scale, (rows[-1] + 1) / scale
        return [Line("ink", x0, y0, x1, y1, y1, y1 - y0)]


def page(*lines: str, width: int = 900, height: int = 400) -> Image.Image:
    picture = Image.new("RGB", (width, height), "white")
    draw = ImageDraw.Draw(picture)
    for number, line in enumerate(lines):
        draw.text((60, 50 + 90 * number), line, "black", ImageFont.load_default(36))
    return picture


def blot(mode: str = "L", size: tuple[int, int] = (200, 100)) -> Image.Image:
    """Ink in the left half of the upper fifth."""
    picture = Image.new("L", size, 255)
    picture.paste(0, (0, 0, size[0] // 2, size[1] // 5))
    return picture.convert(mode)


def saved(picture: Image.Image, kind: str, **how: object) -> bytes:
    buffer = io.BytesIO()
    picture.save(buffer, kind, **how)
    return buffer.getvalue()


def told(element: Element) -> str:
    return element.text.replace(" ", "")


@pytest.mark.parametrize("kind", ["PNG", "JPEG", "WEBP", "TIFF"])
def test_the_words_of_a_picture_are_read_with_their_place(kind: str) -> None:
    parsed = PARSER.parse(saved(page("The warranty lasts 24 months."), kind), "a")
    (element,) = parsed.elements
    assert told(element) == "Thewarrantylasts24months."
    (box,) = element.boxes
    assert (box.page, element.page, parsed.pages) == (1, 1, 1)
    assert box.x0 == pytest.approx(60 / 900, abs=0.02)
    assert box.y0 == pytest.approx(55 / 400, abs=0.04)


def test_every_page_of_a_tiff_is_a_page() -> None:
    pages = [page("First page here."), page("Second sheet there."), page("Third and last one.")]
    data = saved(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    parsed = build_parser().parse(data, "scan.tif")
    assert parsed.pages == 3
    assert [(told(element), element.page) for element in parsed.elements] == [
        ("Firstpagehere.", 1),
        ("Secondsheetthere.", 2),
        ("Thirdandlastone.", 3),
    ]


@pytest.mark.skipif(not HANDBOOK.exists(), reason="the shared measuring data is not here")
def test_a_chinese_page_is_read_as_it_was_printed() -> None:
    document = pypdfium2.PdfDocument(HANDBOOK)
    printed = document[11]
    picture = printed.render(scale=3.0, crop=(0, 400, 0, 50)).to_pil()
    words = printed.get_textpage().get_text_bounded(bottom=410, top=printed.get_height() - 60)
    document.close()
    read = "".join(map(told, PARSER.parse(saved(picture, "JPEG"), "a.jpg").elements))
    grams = {
        gram
        for line in words.split()
        for at in range(len(line) - 3)
        if (gram := line[at : at + 4]).isalnum()
    }
    assert len(grams) > 100
    assert sum(gram in read for gram in grams) > 0.9 * len(grams)


def test_a_long_screenshot_is_read_in_bands_and_keeps_its_order() -> None:
    lines = [f"Message number {number} of the chat" for number in range(32)]
    parsed = PARSER.parse(saved(page(*lines, width=900, height=2960), "PNG"), "chat.png")
    text = "".join(map(told, parsed.elements))
    assert text == "".join(line.replace(" ", "") for line in lines)
    tops = [box.y0 for element in parsed.elements for box in element.boxes]
    assert tops == sorted(tops)
    assert tops[-1] == pytest.approx((50 + 90 * 31) / 2960, abs=0.01)


@given(st.integers(1, 6000), st.integers(1, 900), st.integers(0, 2**32))
@settings(deadline=None, max_examples=40)
def test_bands_follow_one_another_and_cut_no_line(height: int, width: int, seed: int) -> None:
    noise = np.random.default_rng(seed)
    pixels = np.full((height, width), 255, np.uint8)
    for top in range(10, height - 20, 30):  # a line of 18 rows and a gap of 12
        pixels[top : top + 18] = noise.integers(0, 2, (18, width)) * 255
    found = cuts(pixels)
    assert found[0] == 0
    assert found[-1] == height
    assert found == sorted(set(found))
    if width > 20:
        assert all(pixels[row].min() == 255 for row in found[1:-1])


@pytest.mark.parametrize("mode", ["1", "L", "P", "RGB", "RGBA", "LA", "CMYK", "I", "F", "I;16"])
def test_every_kind_of_pixel_is_read(mode: str) -> None:
    picture = blot("I").convert(mode) if mode == "I;16" else blot(mode)
    parsed = ImageParser(recognizer=Ink()).parse(saved(picture, "TIFF"), "a")
    assert parsed.elements[0].boxes[0].x1 == pytest.approx(0.5)


def test_what_is_transparent_is_white() -> None:
    picture = Image.new("RGBA", (100, 100), (0, 0, 0, 0))
    picture.paste((0, 0, 0, 255), (0, 0, 50, 20))
    parsed = ImageParser(recognizer=Ink()).parse(saved(picture, "PNG"), "a")
    (box,) = parsed.elements[0].boxes
    assert (box.x0, box.y0, box.x1, box.y1) == pytest.approx((0, 0, 0.5, 0.2))


def test_a_photograph_is_turned_upright() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6  # the camera was turned: rotate by 90 degrees clockwise
    ink = Ink()
    data = saved(blot(), "JPEG", exif=exif)
    (element,) = ImageParser(recognizer=ink).parse(data, "a").elements
    assert ink.shapes == [(200, 100)]
    assert element.boxes[0].x0 == pytest.approx(0.8, abs=0.02)
    assert element.boxes[0].y1 == pytest.approx(0.5, abs=0.02)


def test_a_large_picture_is_made_smaller_and_its_boxes_stay() -> None:
    ink = Ink()
    (element,) = (
        ImageParser(recognizer=ink).parse(saved(blot("1", (8000, 6000)), "PNG"), "a").elements
    )
    assert ink.shapes[0][0] * ink.shapes[0][1] <= 25_000_000
    assert element.boxes[0].x1 == pytest.approx(0.5, abs=0.001)
    assert element.boxes[0].y1 == pytest.approx(0.2, abs=0.001)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few bytes that says it has so many pixels."""

    def part(kind: bytes, body: bytes) -> bytes:
        return (
            struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))
        )

    head = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    rows = zlib.compress(bytes(1000))
    return b"\x89PNG\r\n\x1a\n" + part(b"IHDR", head) + part(b"IDAT", rows) + part(b"IEND", b"")


@pytest.mark.parametrize("side", [9_000, 10_000, 40_000])
def test_a_decompression_bomb_is_refused_before_it_is_unpacked(side: int) -> None:
    with pytest.raises(TooLarge, match="80 million pixels"):
        PARSER.parse(bomb(side, side), "bomb.png")


def test_too_many_pages_are_refused() -> None:
    data = saved(blot(), "TIFF", save_all=True, append_images=[blot(), blot()])
    with pytest.raises(TooLarge, match="3 pages"):
        ImageParser(recognizer=Ink(), max_pages=2).parse(data, "a.tif")


def test_a_blank_picture_is_empty_and_a_cut_one_is_damaged() -> None:
    with pytest.raises(EmptyDocument, match="sharper"):
        PARSER.parse(saved(Image.new("RGB", (300, 300), "white"), "PNG"), "a.png")
    with pytest.raises(EmptyDocument, match="sharper"):
        PARSER.parse(saved(Image.new("L", (1, 1), 0), "PNG"), "dot.png")
    whole = saved(page("words"), "PNG")
    for cut in (20, len(whole) // 2):
        with pytest.raises(DamagedDocument, match="save it again"):
            build_parser().parse(whole[:cut], "a.png")
