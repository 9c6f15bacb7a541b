"""A rich text is read as its writer saw it, whatever its code page."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse.parser import build_parser
from indexer.parse.rtf import RtfParser, read_rtf
from pipeline.types import Element, ElementKind, Grid

FONTS = (
    r"{\fonttbl{\f0\fnil\fcharset0 Arial;}{\f1\fnil\fcharset134 SimSun;}{\f2\fnil\fcharset136 Ming;}"
    r"{\f3\fnil\fcharset128 Gothic;}{\f4\fnil\fcharset204 Cyr;}}"
)
PARAGRAPHS = st.lists(
    st.text("保修期為二十四个月かなÄé€😀 abcXYZ019.,;\\{}-", min_size=1, max_size=40)
    .map(lambda text: " ".join(text.split()))
    .filter(lambda text: text.strip("\\{}-;,. ") != ""),
    min_size=1,
    max_size=6,
)


def texts(body: str, head: str = r"{\rtf1\ansi\ansicpg1252") -> list[str]:
    data = f"{head}{FONTS}{body}}}".encode("latin-1")
    return [element.text for element in RtfParser().parse(data, "a.rtf").elements]


def coded(text: str, codec: str) -> str:
    return "".join(f"\\'{byte:02x}" for byte in text.encode(codec))


def escaped(text: str) -> str:
    """As a writer of today does: every character over ASCII by its number."""
    pieces = []
    for char in text:
        if char in "\\{}":
            pieces.append("\\" + char)
        elif char < "\x80":
            pieces.append(char)
        else:
            units = char.encode("utf-16-le")
            for at in range(0, len(units), 2):
                number = int.from_bytes(units[at : at + 2], "little", signed=True)
                pieces.append(f"\\u{number} ?")
    return "".join(pieces)


@given(PARAGRAPHS)
@settings(deadline=None, max_examples=60)
def test_every_paragraph_is_read_in_order(paragraphs: list[str]) -> None:
    body = "\\par\n".join(escaped(text) for text in paragraphs)
    assert texts(body) == paragraphs


@pytest.mark.parametrize(
    ("page", "codec", "text"),
    [
        (936, "gbk", "保修期为二十四个月，自交货之日起计算。"),
        (54936, "gb18030", "保修期㐂为二十四个月。"),
        (950, "big5", "保固期為二十四個月，功許蓋。"),
        (932, "cp932", "保証期間は二十四か月です。表ソ能"),
        (949, "cp949", "보증 기간은 이십사 개월입니다."),
        (1251, "cp1251", "Гарантия два года"),
        (1252, "cp1252", "Größe – naïve “Ñ”"),
    ],
)
def test_bytes_are_read_in_the_code_page_of_the_file(page: int, codec: str, text: str) -> None:
    head = rf"{{\rtf1\ansi\ansicpg{page}"
    if codec == "gb18030":
        head = r"{\rtf1\ansi\ansicpg936"
    assert texts(coded(text, codec), head) == [text]
    raw = f"{head}\\pard ".encode() + text.encode(codec) + b"\\par}"
    if b"\\" not in text.encode(codec) and b"{" not in text.encode(codec):
        assert [element.text for element in read_rtf(raw)[0] if element.text] == [text]


def test_each_font_brings_its_own_code_page() -> None:
    body = (
        rf"\f1 {coded('简体', 'gbk')}\f2 {coded('繁體', 'big5')}{{\f3 {coded('かな', 'cp932')}}}"
        rf"{coded('字', 'big5')}\f4 {coded('да', 'cp1251')}\f0 {coded('é', 'cp1252')}"
    )
    assert texts(body) == ["简体繁體かな字даé"]


def test_notes_boxes_remarks_and_running_lines_keep_their_place() -> None:
    body = (
        r"{\header\pard Running head\par}{\footer Page 1}"
        r"{\stylesheet{\s0 Normal;}{\s1\outlinelevel0 heading 1;}{\*\cs9 x;}{\s2 "
        + coded("标题 2", "gbk").replace("f", "F")
        + r";}}{\info{\title My title}{\author Somebody}{\creatim\yr2020}}"
        r"\pard\s1 Chapter\par\pard First{\footnote\pard Note one\par Note two} goes on\par"
        r"{\*\atnid L}{\*\atnauthor Li Si}Said{\*\annotation\pard{\*\atndate 1}Check this\par} so\par"
        r"{\shp{\*\shpinst{\sp{\sn n}{\sv 7}}{\shptxt\pard In the box\par}}{\shprslt x}}Anchor\par"
        r"{\field{\*\fldinst HYPERLINK \"http://a\"}{\fldrslt a link}}{\v hidden}{\*\unknown gone}"
        r"{\pict\pngblip 89504e47}{\*\bkmkstart b}\par\pard\outlinelevel1 Under it\par"
        r"\pard{\listtext 1.\tab}An item\par"
    )
    data = (r"{\rtf1\ansi\ansicpg936" + FONTS + body + "}").encode("latin-1")
    parsed = build_parser().parse(data, "renamed.docx")
    assert parsed.title == "My title"
    kinds = ElementKind
    assert [(e.text, e.kind, e.heading) for e in parsed.elements] == [
        ("Running head", kinds.FURNITURE, ()),
        ("Page 1", kinds.FURNITURE, ()),
        ("Chapter", kinds.HEADING, ()),
        ("First goes on", kinds.PARAGRAPH, ("Chapter",)),
        ("Note one", kinds.PARAGRAPH, ("Chapter",)),
        ("Note two", kinds.PARAGRAPH, ("Chapter",)),
        ("Said so", kinds.PARAGRAPH, ("Chapter",)),
        ("Li Si: Check this", kinds.PARAGRAPH, ("Chapter",)),
        ("Anchor", kinds.PARAGRAPH, ("Chapter",)),
        ("In the box", kinds.PARAGRAPH, ("Chapter",)),
        ("a link", kinds.PARAGRAPH, ("Chapter",)),
        ("Under it", kinds.HEADING, ("Chapter",)),
        ("1. An item", kinds.LIST_ITEM, ("Chapter", "Under it")),
    ]


def test_a_table_is_one_and_its_cells_may_have_paragraphs() -> None:
    body = (
        r"\pard Before\par\trowd\cellx100\cellx200\pard\intbl Item\cell\pard\intbl Price\cell\row"
        r"\trowd\pard\intbl A\par B\cell 12\cell\row\pard After\par"
    )
    data = (r"{\rtf1" + body + "}").encode()
    grid = Grid((1, 2), (1, 2), ("Item", "Price"), header=1)
    table = Element("Item | Price\nA B | 12", ElementKind.TABLE, columns=grid.labels, grid=grid)
    assert list(RtfParser().parse(data, "a").elements) == [
        Element("Before"),
        table,
        Element("After"),
    ]


def test_binary_pictures_are_stepped_over() -> None:
    data = rb"{\rtf1 before {\pict\bin7 }}{\\\'zz}after\par}"
    assert [element.text for element in read_rtf(data)[0]] == ["before after"]


@given(
    st.lists(
        st.sampled_from(
            [
                "{",
                "}",
                "\\par ",
                "\\cell ",
                "\\row ",
                "\\intbl ",
                "{\\footnote ",
                "{\\header ",
                "\\u20013 ?",
                "\\'d6",
                "{\\*\\x ",
                "{\\upr ",
                "{\\*\\ud ",
                "\\bin3 ",
                "\\f1 ",
                "text ",
                "{\\fonttbl ",
                "\\v ",
                "{\\shptxt ",
            ]
        ),
        max_size=60,
    )
)
@settings(deadline=None, max_examples=200)
def test_no_order_of_words_breaks_the_reader(words: list[str]) -> None:  # fmt: skip
    elements, _ = read_rtf(("{\\rtf1 " + "".join(words)).encode("latin-1"))
    assert all(isinstance(element.text, str) for element in elements)
