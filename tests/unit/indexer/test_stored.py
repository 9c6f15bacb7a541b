from indexer.text.stored import decode_layout, encode_layout, locate, store
from pipeline.types import Box, Element, ElementKind, Parsed

LINES = tuple(Box(2, 0.1, n / 8, 0.9, n / 8 + 0.0625) for n in range(1, 5))
PARSED = Parsed(
    (
        Element("标题 😀", ElementKind.HEADING, 1, (), 1),
        Element("0123456789" * 4, ElementKind.PARAGRAPH, 2, ("标题 😀",), boxes=LINES),
        Element("a | b", ElementKind.TABLE, 3, ("标题 😀",), columns=("a", "b")),
    )
)


def test_a_layout_comes_back_as_it_was_written() -> None:
    stored = store(PARSED)
    assert decode_layout(stored.text, encode_layout(stored.placed)) == stored


def test_the_place_of_a_quote_is_its_own_page_and_lines() -> None:
    stored = store(PARSED)
    start = stored.text.index("0123")
    assert locate(stored, start, start + 10) == (2, LINES[:1])
    assert locate(stored, start + 10, start + 30) == (2, LINES[1:3])
    assert locate(stored, start, start + 40) == (2, LINES)
    assert locate(stored, 0, 2) == (1, ())


def test_list_items_stand_line_by_line() -> None:
    items = Parsed(tuple(Element(t, ElementKind.LIST_ITEM) for t in ("一", "二")))
    assert store(items).text == "一\n二"


def test_a_quote_is_marked_on_its_own_lines_where_an_element_knows_where_they_begin() -> None:
    text = "甲乙丙丁 a long line of English words 戊己"
    element = Element(text, page=2, boxes=LINES[:3], starts=(0, 5, 35))
    stored = store(Parsed((element,)))
    assert decode_layout(stored.text, encode_layout(stored.placed)) == stored
    assert locate(stored, 0, 4) == (2, LINES[:1])
    assert locate(stored, 5, 34) == (2, LINES[1:2])
    assert locate(stored, 30, 36) == (2, LINES[1:3])
    assert locate(stored, 35, len(text)) == (2, LINES[2:3])
