"""HTML to elements: the tree is made plain first, so that `unstructured` reads all of it.

On its own it leaves out `<details>`, `<figure>`, `<form>`, everything outside `<main>` and
paragraphs of one character, and it flattens line breaks and tables that only lay out a page.
Site navigation, scripts, styles and text that a browser does not show are dropped; anything else is
content and stays.
"""

import re
from collections.abc import Iterator
from typing import TYPE_CHECKING

from indexer.parse import outline
from indexer.parse.encoding import clean, decode
from indexer.parse.hidden import drop_hidden
from indexer.parse.nesting import NESTING, TooDeep, depth
from indexer.parse.offline import go_offline
from indexer.parse.parts import BREAK, HEAD, LONELY, WIDE_SPACE, converted, grid
from pipeline.types import Element, Parsed

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_DROPPED = (
    "script style noscript template svg iframe audio video canvas select datalist textarea input"
    " button nav head link meta wbr del".split()
)
_BLOCKS = frozenset(
    "address article aside blockquote body center div footer header hgroup section h1 h2 h3 h4 h5 h6"
    " p pre dl ol ul dd dt li table thead tbody tfoot tr td th hr html".split()
)
_TO_DIV = frozenset(
    "main details summary figure figcaption form fieldset legend dialog object search caption"
    " noembed noframes hgroup".split()
)
_INLINE = frozenset(
    "a b em i strong abbr bdi bdo big br cite code data dfn kbd mark q s samp small span strike sub"
    " sup time tt u var math".split()
)
_FORMATTING = _INLINE - {"a", "br", "math"} | {"font"}
"""Old pages open these a thousand times and never close them: each is an element in the one before."""
_CUT_OFF = 2048
"""Levels. Here libxml2 stops in any case, and the tree is not the whole page."""
KNOWN = frozenset({*_DROPPED, *_BLOCKS, *_TO_DIV, *_INLINE}) | frozenset(
    "br img font ins menu dir col colgroup picture source track area map center param rp rt ruby"
    " title output progress meter slot embed frame frameset applet label legend".split()
)
"""Every tag of HTML; `<command>` or `<your-name>` in a text is none but something to fill in."""
_HEADINGS = ("h1", "h2", "h3", "h4", "h5", "h6")
_NAVIGATION = re.compile(
    r"\b(nav|navbar|navigation|navheader|navfooter|breadcrumbs?|menu|sidebar|skip-?link|tocmenu|pager|"
    r"pagination|site-?(nav|header|footer))\b"
)
_GONE = "gone"
"""Takes the place of tags that go while what they hold stays."""
_ANCHORS = frozenset("¶ # § 🔗".split())
_ENDLESS = re.compile(r"<\?[^>]{4000,}>?")
"""An instruction to nobody, which takes libxml2 the square of its length."""
_DECLARATION = re.compile(r"^\s*<\?xml[^>]*\?>")


class HtmlParser:
    """Reads HTML pages. Raises InvalidInput (DamagedDocument) for bytes that are no text."""

    def __init__(self, *, nesting: int = NESTING) -> None:
        self._nesting = nesting

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({"text/html"})

    def parse(self, data: bytes, name: str) -> Parsed:  # noqa: ARG002 - the port gives the name
        elements, title = read_html(decode(data), self._nesting)
        return Parsed(outline.outlined(elements), title)


def read_html(markup: str, nesting: int = NESTING) -> tuple[list[Element], str | None]:
    """The elements of a page, headings with their level, and the page's own title.

    Raises TooDeep for more than `nesting` elements in each other, formatting that was never closed apart.
    """
    root = _tree(markup)
    if root is None:
        return [], None
    found = root.find(".//title")
    title = outline.one_line(found.text_content()) if found is not None else ""
    _simplify(root, nesting)
    elements = list(_partition(root))
    return elements, title or outline.first_heading(elements)


def _tree(markup: str) -> "HtmlElement | None":
    from lxml import etree, html

    text = _ENDLESS.sub("", _DECLARATION.sub("", clean(markup)))
    if not text.strip():
        return None
    try:
        # Of what lies deeper than 256 elements, libxml2 reads nothing if it is not told otherwise.
        root: HtmlElement = html.document_fromstring(text, parser=html.HTMLParser(huge_tree=True))
    except etree.ParserError:  # only comments or declarations: a page without anything on it
        return None
    return root


def _check_depth(root: "HtmlElement", nesting: int) -> None:
    """Drops what is hidden, and raises TooDeep; formatting that was never closed does not count."""
    from lxml import etree

    deepest = depth(root)
    if deepest >= _CUT_OFF:
        raise TooDeep(nesting)
    drop_hidden(root)
    if deepest > nesting:
        etree.strip_tags(root, *_FORMATTING)
        if depth(root) > nesting:
            raise TooDeep(nesting)


def _simplify(root: "HtmlElement", nesting: int) -> None:
    from lxml import etree

    _check_depth(root, nesting)
    _drop(root)
    for element in list(root.iter("caption")):
        _lift_caption(element)
    for element in list(root.iter("table")):
        if _lays_out(element):
            for part in list(element.iter("thead", "tbody", "tfoot", "tr", "td", "th")):
                if next(part.iterancestors("table"), None) is element:
                    part.tag = "div"
            element.tag = "div"
    for element in root.iter("br"):
        element.text = "\n" if _within(element, "pre") else BREAK
    etree.strip_tags(root, "br")  # all at once: `drop_tag` copies the text so far for each
    spent = 0
    for element in list(root.iter("table")):
        spent = _spread(element, spent)
    for element in list(root.iter()):
        _plain_tag(element)
    etree.strip_tags(root, _GONE)
    for element in root.iter():
        _mend_texts(element)
        if element.tag != "math":  # whose words may stand in `alttext`
            element.attrib.clear()  # said all they say; a long one with `<` in it takes minutes


def _drop(root: "HtmlElement") -> None:
    from lxml import etree

    etree.strip_elements(root, etree.Comment, etree.ProcessingInstruction, with_tail=False)
    etree.strip_elements(root, *_DROPPED, with_tail=False)
    for element in root.iter("img"):
        element.text = _words_of(element)
    etree.strip_tags(root, "img")
    for element in list(root.iter("div", "ul", "ol", "table", "p", "header", "footer", "aside")):
        if _is_navigation(element):
            element.drop_tree()


def _words_of(image: "HtmlElement") -> str:
    """Formulas and emoji are written as images whose `alt` is the text; other pictures say nothing."""
    if re.search(r"math|latex|tex|emoji", image.get("class", ""), re.IGNORECASE):
        return str(image.get("alt", ""))
    return ""


def _is_navigation(element: "HtmlElement") -> bool:
    """Links to elsewhere, as its place or its name says and its content bears out."""
    names = f"{element.get('class', '')} {element.get('id', '')} {element.get('role', '')}".lower()
    if element.tag not in {"header", "footer", "aside"} and not _NAVIGATION.search(names):
        return False
    if any(True for _ in element.iter(*_HEADINGS)):
        return False
    length = len("".join(element.text_content().split()))
    linked = sum(len("".join(link.text_content().split())) for link in element.iter("a"))
    has_links = any(True for _ in element.iter("a"))
    short_bar = length < 200 and bool(_NAVIGATION.search(names)) and element.find(".//p") is None
    return has_links and (linked * 2 > length or short_bar)


def _lift_caption(element: "HtmlElement") -> None:
    table = next(element.iterancestors("table"), None)
    if table is None or table.getparent() is None:
        return
    tail, element.tail = element.tail, None
    table.addprevious(element)
    element.tag = "p"
    element.tail = tail


def _lays_out(table: "HtmlElement") -> bool:
    """A table in name only: it holds another table, headings or paragraphs, or has one cell."""
    if table.get("role") == "presentation" or table.find(".//table") is not None:
        return True
    if any(True for _ in table.iter(*_HEADINGS)):
        return True
    cells = list(table.iter("td", "th"))
    return len(cells) <= 1 or any(len(list(cell.iter("p", "div"))) > 3 for cell in cells)


def _spread(table: "HtmlElement", spent: int) -> int:
    """The table as plain rows of cells, merged ones spread out; returns `spent` and their cost."""
    from lxml import etree

    mark = _header_mark(table)
    rows, spent = grid(table, spent)
    for child in list(table):
        table.remove(child)
    for cells in rows:
        row = etree.SubElement(table, "tr")
        for text in cells or [""] * bool(mark):
            etree.SubElement(row, "td").text = mark + text
            mark = ""
    return spent


def _header_mark(table: "HtmlElement") -> str:
    """What says how many of the first rows are the header: those of `<thead>`, or all of `<th>`; "" where none is."""
    rows = list(table.iter("tr"))
    count = 0
    for row in rows:
        cells = [cell for cell in row.iter("td", "th") if cell.text_content().strip()]
        heads = row.getparent().tag == "thead" or all(cell.tag == "th" for cell in cells)
        if not cells or not heads:
            break
        count += 1
    known = count > 0 or any(True for _ in table.iter("th"))
    return HEAD * (count + 1) if known and count < len(rows) else ""


def _within(element: "HtmlElement", tag: str) -> bool:
    return next(element.iterancestors(tag), None) is not None


def _plain_tag(element: "HtmlElement") -> None:
    """Every tag becomes one that `unstructured` reads; a tag around blocks is a block."""
    tag = element.tag
    if tag in {"html", "body", "table", "thead", "tbody", "tfoot", "tr", "td", "th"}:
        return
    if tag == "a" and (element.text_content().strip() in _ANCHORS):
        element.drop_tree()
        return
    if _within(element, "pre") or any(_within(element, heading) for heading in _HEADINGS):
        element.tag = _GONE
        return
    if tag in {"menu", "dir"}:
        element.tag = "ul"
    elif tag in _TO_DIV:
        element.tag = "div"
    elif tag not in _BLOCKS and tag != "math":
        around = any(
            child.tag in _BLOCKS or child.tag in _TO_DIV for child in element.iterdescendants()
        )
        if around:
            element.tag = "div"
        elif tag not in _INLINE:
            element.tag = "span"


def _mend_texts(element: "HtmlElement") -> None:
    inside = element.tag == "pre" or _within(element, "pre")
    if element.text and not inside:
        element.text = _mended(element.text)
    if element.tail and not _within(element, "pre"):
        element.tail = _mended(element.tail)


def _mended(text: str) -> str:
    text = outline.close_chinese(text).replace("\u3000", WIDE_SPACE)
    return text + LONELY if len(text.strip(" \t\n" + BREAK)) == 1 else text


def _partition(root: "HtmlElement") -> Iterator[Element]:
    go_offline()
    from lxml import etree
    from unstructured.partition.html import partition_html

    text = etree.tostring(root, encoding="unicode", method="html")
    for part in partition_html(text=text, languages=[""]):
        yield from converted(part)
