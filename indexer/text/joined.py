"""Tables over several pages or slides: one table where the header repeats."""

import re
from collections.abc import Iterable, Iterator
from dataclasses import replace
from itertools import compress

from pipeline.types import Element, ElementKind

_GOES_ON = re.compile(
    r"\s*[(（\[]?\s*(?:continued|cont['’]?d?\.?|续表?|續表?|接上[页頁表]|\d+\s*/\s*\d+)\s*[)）\]]?\s*$",
    re.IGNORECASE,
)


def continued(elements: Iterable[Element]) -> Iterator[Element]:
    """Tables whose header is repeated on the next page or slide go on there: the repeated header is left out.

    Between the two stand only furniture and a heading that is said again. The part keeps its page; its rows count on.
    """
    last: Element | None = None
    title = ""
    for element in elements:
        match element.kind:
            case ElementKind.FURNITURE:
                pass
            case ElementKind.HEADING:
                if _bare(element.text) != _bare(title):
                    last, title = None, element.text
            case ElementKind.TABLE:
                if last is not None and _same_header(last, element):
                    element = _without_header(element, last)
                last = element
            case _:
                last = None
        yield element


def _bare(title: str) -> str:
    return _GOES_ON.sub("", title)


def _same_header(above: Element, below: Element) -> bool:
    one, two = above.grid, below.grid
    if one is None or two is None or not two.header or one.sheet != two.sheet:
        return False
    head = above.text.split("\n")[: one.header] if one.header else one.repeated.split("\n")
    same = head == below.text.split("\n")[: two.header] and one.columns == two.columns
    return same and below.text.count("\n") >= two.header


def _without_header(element: Element, above: Element) -> Element:
    grid, before = element.grid, above.grid
    assert grid is not None
    assert before is not None
    lines = element.text.split("\n")
    head, body = "\n".join(lines[: grid.header]), "\n".join(lines[grid.header :])
    cut = len(head) + 1
    rows = grid.rows[grid.header :]
    if grid.sheet is None:
        rows = tuple(before.rows[-1] - grid.rows[grid.header] + 1 + row for row in rows)
    keep = [at >= cut for at in element.starts]
    return replace(
        element,
        text=body,
        boxes=tuple(compress(element.boxes, keep)),
        starts=tuple(at - cut for at in element.starts if at >= cut),
        grid=replace(
            grid,
            rows=rows,
            header=0,
            bars=tuple(bar - cut for bar in grid.bars if bar >= cut),
            repeated=head,
        ),
    )
