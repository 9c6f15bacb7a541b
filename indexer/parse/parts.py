"""Parts as `unstructured` returns them to elements, and tables to rows of cells."""

from typing import TYPE_CHECKING, Any

from indexer.parse import outline, tabular
from pipeline.errors import TooLarge
from pipeline.types import Element, ElementKind

if TYPE_CHECKING:
    from lxml.html import HtmlElement

BREAK = "\ufdd0"
"""Stands for `<br>` on the way through `unstructured`, which knows no line breaks."""
LONELY = "\ufdd1"
"""Follows a lone character, since `unstructured` drops texts of one."""
WIDE_SPACE = "\ufdd2"
"""Stands for U+3000, which `unstructured` makes a plain space."""

HEAD = "\ufdd3"
"""Begins the first cell of a table whose header lines are known: once, and once more for each of them."""

MAX_SPREAD = 6_000_000
"""What merged cells may cost, in characters that are repeated."""
_CELL = 20
"""An empty cell costs as much as so many characters."""
_WIDEST = 1_000


def converted(part: Any) -> list[Element]:  # noqa: ANN401 - unstructured ships no types
    """One element of `unstructured` as ours; pictures and page breaks say nothing."""
    page = part.metadata.page_number
    match part.category:
        case "Image" | "PageBreak":
            return []
        case "Table":
            return _table(part, page)
        case "CodeSnippet":
            return [Element(outline.code(_restored(part.text)), ElementKind.CODE, page)]
        case "Title":
            level = (part.metadata.category_depth or 0) + 1
            text = _text(part).replace("\n", " ")
            return [Element(text, ElementKind.HEADING, page, level=level)]
        case "ListItem":
            return [Element(_text(part), ElementKind.LIST_ITEM, page)]
        case "Header" | "Footer":
            return [Element(_text(part), ElementKind.FURNITURE, page)]
        case _:
            return [Element(_text(part), page=page)]


def _table(part: Any, page: int | None) -> list[Element]:  # noqa: ANN401 - no types
    rows = _rows(part)
    said = next((row[0] for row in rows if row), "")
    marks = len(said) - len(said.lstrip(HEAD))
    plain = [[cell.lstrip(HEAD) for cell in row] for row in rows]
    return tabular.table(plain, page=page, header=marks - 1 if marks else None)


def _rows(part: Any) -> list[list[str]]:  # noqa: ANN401 - unstructured ships no types
    from lxml import html

    if not part.metadata.text_as_html:
        return [[_unmarked(part.text)]]
    tree = html.fragment_fromstring(part.metadata.text_as_html, create_parent="div")
    return [[_unmarked(cell) for cell in row] for row in grid(tree)[0]]


def grid(tree: "HtmlElement", spent: int = 0) -> tuple[list[list[str]], int]:
    """The rows of a table's tree, with merged cells spread out: down by repeating the text, across by empty cells.

    Empty cells at the end of a row are left out. The second value is `spent` and what the spreading
    costs more, in characters; over `MAX_SPREAD` it raises TooLarge, since a few spans make millions
    of cells.
    """
    rows: list[list[str]] = []
    hanging: dict[int, tuple[int, str]] = {}
    for row in tree.iter("tr"):
        cells: list[str] = []
        own = 0
        for cell in row.iter("td", "th"):
            cells += _hung(hanging, len(cells))
            text = cell.text_content()
            own += _CELL + len(text)
            across, down = _span(cell, "colspan"), _span(cell, "rowspan")
            for step in range(across):
                if down > 1:
                    hanging[len(cells)] = (down - 1, "" if step else text)
                cells.append("" if step else text)
            _refuse_spread(_CELL * len(cells) - own)
        cells += _hung(hanging, len(cells))
        while cells and not cells[-1]:
            cells.pop()
        spent += max(0, _CELL * len(cells) + sum(map(len, cells)) - own)
        _refuse_spread(spent)
        rows.append(cells)
    return rows, spent


def _refuse_spread(spent: int) -> None:
    if spent > MAX_SPREAD:
        raise TooLarge(
            "The merged cells of the tables in this file reach over too many rows and columns. "
            "Split the tables or take the cells apart."
        )


def _hung(hanging: dict[int, tuple[int, str]], at: int) -> list[str]:
    """The texts of cells that reach down from rows above, from column `at` on."""
    texts: list[str] = []
    while at in hanging:
        left, text = hanging.pop(at)
        if left > 1:
            hanging[at] = (left - 1, text)
        texts.append(text)
        at += 1
    return texts


def _span(cell: "HtmlElement", name: str) -> int:
    value = cell.get(name, "1")
    return min(max(int(value), 1), _WIDEST) if value.isdigit() else 1


def _text(part: Any) -> str:  # noqa: ANN401 - unstructured ships no types
    return outline.tidy(_restored(part.text))


def _restored(text: str) -> str:
    return _unmarked(text).replace(HEAD, "")


def _unmarked(text: str) -> str:
    return text.replace(LONELY, "").replace(BREAK, "\n").replace(WIDE_SPACE, "\u3000")
