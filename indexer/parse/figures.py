"""Charts and diagrams of Office files: the numbers and words that their pictures are drawn from."""

from collections.abc import Iterator
from typing import Any

from indexer.parse import outline, tabular
from pipeline.types import Element

_C = "{http://schemas.openxmlformats.org/drawingml/2006/chart}"
_A = "{http://schemas.openxmlformats.org/drawingml/2006/main}"
_MOST_POINTS = 100_000


def figures(part: Any, page: int | None) -> list[Element]:  # noqa: ANN401 - a part of python-pptx
    """The charts as tables (a category a row, a series a column) and the diagrams as paragraphs."""
    from lxml import etree

    parser = etree.XMLParser(resolve_entities=False, no_network=True, recover=True)
    elements: list[Element] = []
    for relation in part.rels.values():
        kind = relation.reltype.rsplit("/", 1)[-1]
        if relation.is_external or kind not in {"chart", "diagramData"}:
            continue
        tree = etree.fromstring(relation.target_part.blob, parser)
        if tree is None:
            continue
        if kind == "chart":
            elements += _chart(tree, page)
        else:
            elements += [Element(outline.tidy(text), page=page) for text in written(tree)]
    return elements


def written(tree: Any) -> Iterator[str]:  # noqa: ANN401 - lxml elements
    """The paragraphs of a drawing."""
    return (_letters(paragraph) for paragraph in tree.iter(f"{_A}p"))


def titles(chart: Any) -> Iterator[str]:  # noqa: ANN401 - lxml elements
    """The title of a chart and those of its axes."""
    return (outline.one_line(_letters(title)) for title in chart.iter(f"{_C}title"))


def _chart(tree: Any, page: int | None) -> list[Element]:  # noqa: ANN401 - lxml elements
    named = [Element(title, page=page) for title in titles(tree)]
    series = list(tree.iter(f"{_C}ser"))
    columns = [_points(one, "val") or _points(one, "yVal") for one in series]
    categories = next((found for one in series if (found := _categories(one))), {})
    names = [outline.one_line(" ".join(_points(one, "tx").values())) for one in series]
    rows = sorted({*categories, *(at for column in columns for at in column)})
    head = ["", *names]
    body = [[categories.get(at, ""), *(column.get(at, "") for column in columns)] for at in rows]
    return [*named, *tabular.table([head, *body] if any(names) else body, page=page)]


def _categories(series: Any) -> dict[int, str]:  # noqa: ANN401 - lxml elements
    return _points(series, "cat") or _points(series, "xVal")


def _points(series: Any, name: str) -> dict[int, str]:  # noqa: ANN401 - lxml elements
    """The cached values of one reference of a series, by their number."""
    holder = series.find(f"{_C}{name}")
    if holder is None:
        return {}
    levels = list(holder.iter(f"{_C}lvl"))
    found: dict[int, str] = {}
    for point in (levels[0] if levels else holder).iter(f"{_C}pt"):
        number, value = point.get("idx", ""), point.findtext(f"{_C}v")
        if number.isdecimal() and value and len(found) < _MOST_POINTS:
            found[int(number[:9])] = value
    if not found and (literal := holder.findtext(f"{_C}v")):
        found[0] = literal
    return found


def _letters(tree: Any) -> str:  # noqa: ANN401 - lxml elements
    return "".join(
        "\n" if part.tag == f"{_A}br" else part.text or ""
        for part in tree.iter(f"{_A}t", f"{_A}br")
    )
