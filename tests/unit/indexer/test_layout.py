"""The optional engine `layout`: regions order and name the lines of a page, and lose none of them."""

import importlib.util
import io
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from reportlab.pdfgen.canvas import Canvas

from indexer.parse.layout import HiResLayout, Region, Regions, ordered
from indexer.parse.lines import Line, Sheet
from indexer.parse.pdf import PdfParser
from pipeline.errors import ModelUnavailable
from pipeline.types import ElementKind

TEXT, TITLE, FURNITURE = ElementKind.PARAGRAPH, ElementKind.HEADING, ElementKind.FURNITURE
WIDTH, HEIGHT = 595, 842
# What a hard page has: a side note that is drawn first, a title of the text's size, a line at the foot.
DRAWN = (
    ("A note beside the text", 400, 200),
    ("in two lines of its own.", 400, 214),
    ("Chapter on pumps", 60, 80),
    ("The pump is switched off before it is", 60, 200),
    ("opened, and stays off until it is dry.", 60, 214),
    ("Acme 2024", 60, 815),
)
SEEN = (
    (TITLE, 50, 60, 300, 90),
    (TEXT, 50, 180, 380, 230),
    (TEXT, 390, 180, 560, 230),
    (FURNITURE, 50, 800, 300, 830),
)


def page() -> bytes:
    buffer = io.BytesIO()
    canvas = Canvas(buffer, pagesize=(WIDTH, HEIGHT))
    canvas.setFont("Helvetica", 10)
    for text, left, down in DRAWN:
        canvas.drawString(left, HEIGHT - down, text)
    canvas.save()
    return buffer.getvalue()


class Scripted:
    """A layout model that sees what it is told to."""

    def regions(self, data: bytes) -> Regions:
        assert data.startswith(b"%PDF")
        return {
            1: [
                Region(kind, x0 / WIDTH, y0 / HEIGHT, x1 / WIDTH, y1 / HEIGHT)
                for kind, x0, y0, x1, y1 in SEEN
            ]
        }


def read(parser: PdfParser) -> list[tuple[str, ElementKind]]:
    parsed = parser.parse(page(), "a.pdf")
    assert all(len(element.boxes) > 0 for element in parsed.elements)
    return [(element.text, element.kind) for element in parsed.elements]


EXPECTED = [
    ("Chapter on pumps", TITLE),
    ("The pump is switched off before it is opened, and stays off until it is dry.", TEXT),
    ("A note beside the text in two lines of its own.", TEXT),
    ("Acme 2024", FURNITURE),
]


def test_regions_order_the_lines_and_name_titles_and_furniture() -> None:
    assert read(PdfParser(layout_model=Scripted())) == EXPECTED
    assert read(PdfParser())[0] == EXPECTED[2]


PLACES = st.tuples(st.floats(0, 1), st.floats(0, 1), st.floats(0, 1), st.floats(0, 1))


@given(
    drawn=st.lists(st.tuples(st.floats(0, 500), st.floats(10, 840)), min_size=1, max_size=12),
    seen=st.lists(st.tuples(st.sampled_from([TEXT, TITLE, FURNITURE]), PLACES), max_size=6),
)
@settings(deadline=None)
def test_no_line_is_lost_or_doubled_whatever_the_model_sees(
    drawn: list[tuple[float, float]], seen: list[tuple[ElementKind, tuple[float, ...]]]
) -> None:
    lines = tuple(Line(str(at), x, y - 8, x + 60, y + 2, y, 10) for at, (x, y) in enumerate(drawn))
    sheet = Sheet(1, WIDTH, HEIGHT, lines)
    found = ordered(sheet, [Region(kind, *place) for kind, place in seen])
    assert sorted(found.lines, key=lambda line: int(line.text)) == list(lines)


def test_a_missing_model_is_an_error_that_says_what_to_set(tmp_path: Path) -> None:
    with pytest.raises(ModelUnavailable, match="ZHINAO_PARSER__LAYOUT_MODEL is not set"):
        HiResLayout.load(None)
    with pytest.raises(ModelUnavailable, match=r"no file .*yolox\.onnx"):
        HiResLayout.load(tmp_path / "yolox.onnx")


INSTALLED = importlib.util.find_spec("unstructured_inference") is not None


if not INSTALLED:

    def test_without_the_extra_the_error_names_it(tmp_path: Path) -> None:
        (tmp_path / "yolox.onnx").write_bytes(b"x")
        with pytest.raises(ModelUnavailable, match=r"pip install \.\[layout\]"):
            HiResLayout.load(tmp_path / "yolox.onnx")


def tiny_yolox(path: Path) -> None:
    """A model file of YOLOX's shape whose answer is always `SEEN`, decoded as unstructured decodes it."""
    import onnx
    from onnx import TensorProto, helper, numpy_helper

    classes = {TITLE: 10, TEXT: 9, FURNITURE: 4}
    cells = 16128  # of strides 8, 16 and 32 over a picture of 1024 x 768
    first = cells - 32 * 24  # those of stride 32
    scale = min(1024 / HEIGHT, 768 / WIDTH)
    answer = np.zeros((1, cells, 16), np.float32)
    for at, (kind, x0, y0, x1, y1) in enumerate(SEEN):
        centre = ((x0 + x1) / 2 * scale / 32 - at, (y0 + y1) / 2 * scale / 32)
        size = (np.log((x1 - x0) * scale / 32), np.log((y1 - y0) * scale / 32))
        answer[0, first + at, :4] = (*centre, *size)
        answer[0, first + at, 4] = answer[0, first + at, 5 + classes[kind]] = 1
    graph = helper.make_graph(
        [helper.make_node("Identity", ["answer"], ["output"])],
        "tiny",
        [helper.make_tensor_value_info("images", TensorProto.FLOAT, [1, 3, 1024, 768])],
        [helper.make_tensor_value_info("output", TensorProto.FLOAT, [1, cells, 16])],
        [numpy_helper.from_array(answer, "answer")],
    )
    onnx.save(
        helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9), path
    )


if INSTALLED:  # by hand: `pip install .[layout]` brings a second torch package and 440 MB

    @pytest.mark.slow
    @pytest.mark.filterwarnings("ignore")
    def test_the_real_hi_res_reads_a_page_with_a_model_file(tmp_path: Path) -> None:
        (tmp_path / "damaged.onnx").write_bytes(b"no model")
        with pytest.raises(ModelUnavailable, match="does not load"):
            HiResLayout.load(tmp_path / "damaged.onnx")
        tiny_yolox(tmp_path / "tiny.onnx")
        read_pages = HiResLayout.load(tmp_path / "tiny.onnx").regions(page())
        assert [region.kind for region in read_pages[1]].count(TITLE) == 1
        assert sorted(
            read(PdfParser(layout_model=HiResLayout.load(tmp_path / "tiny.onnx")))
        ) == sorted(EXPECTED)
