"""A printed page for the sample documents: bookmarks, running header, page numbers, tables.

reportlab has no types, so its objects are `Any` here.
"""

# mypy: disable-error-code="import-untyped"

import io
from collections.abc import Callable
from typing import Any

from bench.sample_blocks import Block, Heading, Item, Note, Paragraph, Table

FONT = "/usr/share/fonts/truetype/wqy/wqy-zenhei.ttc"


def pdf(content: list[Block], *, chinese: bool, header: str = "") -> bytes:
    """Return an A4 document; a `header` also puts page numbers at the foot of every page.

    Chinese text is set in a subset of WenQuanYi Zen Hei, embedded, so that any viewer shows it.
    Raises OSError where Debian's fonts-wqy-zenhei is not installed and `chinese` is true.
    """
    from reportlab import rl_config
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.units import mm
    from reportlab.platypus import SimpleDocTemplate

    rl_config.useA85 = 0  # streams as bytes: a fifth smaller than reportlab's text form

    styles = _styles(chinese=chinese)
    written = io.BytesIO()
    document: Any = SimpleDocTemplate(
        written,
        pagesize=A4,
        leftMargin=25 * mm,
        rightMargin=25 * mm,
        topMargin=28 * mm,
        bottomMargin=26 * mm,
        title=next(block.text for block in content if isinstance(block, Heading)),
        author="Chengxing Robotics",
        lang="zh-CN" if chinese else "en-GB",
        invariant=1,
    )
    document.afterFlowable = _bookmark(document)
    decorate = _furniture(header, styles["body"].fontName, chinese=chinese)
    document.build(
        [part for block in content for part in _flowables(block, styles)],
        onFirstPage=decorate,
        onLaterPages=decorate,
    )
    return written.getvalue()


def _styles(*, chinese: bool) -> dict[str, Any]:
    from reportlab.lib.colors import HexColor
    from reportlab.lib.enums import TA_LEFT
    from reportlab.lib.styles import ParagraphStyle
    from reportlab.pdfbase import pdfmetrics
    from reportlab.pdfbase.ttfonts import TTFont

    face, bold = "Helvetica", "Helvetica-Bold"
    if chinese:
        face = bold = "WenQuanYiZenHei"
        pdfmetrics.registerFont(TTFont(face, FONT, subfontIndex=0))
    body = ParagraphStyle(
        "body",
        fontName=face,
        fontSize=10.5,
        leading=19 if chinese else 15.5,
        spaceAfter=8,
        alignment=TA_LEFT,
        wordWrap="CJK" if chinese else None,
    )
    navy = HexColor("#1d3557")

    def heading(name: str, size: float) -> Any:  # noqa: ANN401
        return ParagraphStyle(
            name,
            parent=body,
            fontName=bold,
            fontSize=size,
            leading=size * 1.4,
            textColor=navy,
            spaceBefore=size * 0.7,
            spaceAfter=size * 0.4,
            keepWithNext=1,
        )

    return {
        "body": body,
        "cell": ParagraphStyle("cell", parent=body, spaceAfter=0, fontSize=9.5, leading=14),
        "item": ParagraphStyle("item", parent=body, leftIndent=16, bulletIndent=4, spaceAfter=3),
        "level1": heading("level1", 20),
        "level2": heading("level2", 14),
        "level3": heading("level3", 11.5),
    }


def _flowables(block: Block, styles: dict[str, Any]) -> list[Any]:
    from reportlab.platypus import Paragraph as Text
    from reportlab.platypus import Spacer

    match block:
        case Heading(text, level):
            return [Text(text, styles[f"level{level}"])]
        case Paragraph(text):
            return [Text(text, styles["body"])]
        case Item(text):
            return [Text(text, styles["item"], bulletText="•")]
        case Table(rows):
            return [_table(rows, styles["cell"]), Spacer(1, 9)]
        case Note():
            return []


def _table(rows: tuple[tuple[str, ...], ...], style: Any) -> Any:  # noqa: ANN401
    from reportlab.lib.colors import HexColor
    from reportlab.lib.units import mm
    from reportlab.platypus import Paragraph as Text
    from reportlab.platypus import Table as Grid

    line = HexColor("#9aa5b1")
    return Grid(
        [[Text(cell, style) for cell in row] for row in rows],
        colWidths=[156 * mm / len(rows[0])] * len(rows[0]),
        repeatRows=1,
        style=[
            ("GRID", (0, 0), (-1, -1), 0.5, line),
            ("BACKGROUND", (0, 0), (-1, 0), HexColor("#e8eef4")),
            ("VALIGN", (0, 0), (-1, -1), "MIDDLE"),
        ],
    )


def _bookmark(document: Any) -> Callable[[Any], None]:  # noqa: ANN401
    """Return a hook that makes a bookmark of every heading as it is placed on a page."""
    count = 0

    def placed(flowable: Any) -> None:  # noqa: ANN401
        nonlocal count
        name = getattr(getattr(flowable, "style", None), "name", "")
        if not name.startswith("level"):
            return
        count += 1
        document.canv.bookmarkPage(f"h{count}")
        document.canv.addOutlineEntry(flowable.getPlainText(), f"h{count}", int(name[-1]) - 1)

    return placed


def _furniture(header: str, face: str, *, chinese: bool) -> Callable[[Any, Any], None]:
    from reportlab.lib.units import mm

    def decorate(canvas: Any, document: Any) -> None:  # noqa: ANN401
        if not header:
            return
        width, height = document.pagesize
        canvas.saveState()
        canvas.setFont(face, 8.5)
        canvas.setFillGray(0.4)
        left = document.leftMargin + 6  # where the frame's padding lets the text begin
        canvas.drawString(left, height - 16 * mm, header)
        canvas.setLineWidth(0.5)
        canvas.line(left, height - 18 * mm, width - left, height - 18 * mm)
        number = f"第 {document.page} 页" if chinese else f"Page {document.page}"
        canvas.drawCentredString(width / 2, 14 * mm, number)
        canvas.restoreState()

    return decorate
