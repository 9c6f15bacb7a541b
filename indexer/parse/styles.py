"""What styles say about whether text is seen: declarations to `Look`s, rules of `<style>` to the elements they are for.

Styles that depend on the pointer, on print or on files elsewhere are left out; a window is 1280 pixels wide.
"""

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from functools import lru_cache
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from lxml.html import HtmlElement

WINDOW = 1280
_MOST_CSS = 500_000
_MOST_INLINE = 10_000
_MOST_WORK = 30_000_000
"""Selectors times elements; a selector among siblings counts the square of the elements."""
_SELECTOR = re.compile(r"[\w\s.#*-]+")
_WIDTH = re.compile(r"\(\s*(min|max)-width\s*:\s*([\d.]+)(px|r?em)\s*\)")
_PIXELS = {"px": 1.0, "pt": 4 / 3, "em": 16.0, "rem": 16.0, "in": 96.0, "cm": 37.8, "mm": 3.78}
_FAR = -900.0
"""Pixels; nearer than this a text may still be pulled into view."""
Colour = tuple[float, float, float]


@dataclass(frozen=True, slots=True)
class Unsure:
    """A value that is not understood."""


Value = bool | float | Colour | Unsure | str
Look = dict[str, Value]
"""What is known by property: `none`, `unseen`, `size`, `opacity`, `colour`, `ground`, `position`, `far`, `indent`,
`clipped`, `flat`, `overflow`; see `_read`."""
Ranked = dict[str, tuple[tuple[int, ...], Value]]


@dataclass(frozen=True, slots=True)
class Sheet:
    """The looks that rules give to elements, ranked, and whether nothing else may give them a ground."""

    ranked: "dict[HtmlElement, Ranked]"
    complete: bool

    def look(self, element: "HtmlElement", inline: str) -> Look:
        """The look of an element under its rules and its own `style`."""
        given = dict(self.ranked.get(element, {}))
        _give(given, _inline(inline) if len(inline) <= _MOST_INLINE else (), (1,))
        return {name: value for name, (_, value) in given.items()}


def sheet(root: "HtmlElement") -> Sheet:
    """The rules of all `<style>` elements, matched; as far as that is no more than a moment's work."""
    texts = [element.text or "" for element in root.iter("style")]
    if sum(map(len, texts)) > _MOST_CSS:
        return Sheet({}, complete=False)
    linked = any("stylesheet" in str(link.get("rel", "")).lower() for link in root.iter("link"))
    ranked: dict[HtmlElement, Ranked] = {}
    complete = not linked
    elements = sum(1 for _ in root.iter())
    work = 0
    for order, rule in enumerate(rule for text in texts for rule in _rules(text)):
        selector = _written(rule.prelude) if rule is not None else None
        content = _written(rule.content) if rule is not None else None
        if selector is None or content is None:
            complete = False
            continue
        if not (given := declared(content)):
            continue
        work += _cost(selector, elements)
        if work > _MOST_WORK:
            return Sheet(ranked, complete=False)
        for found, specificity in _matched(root, selector):
            if found is None:
                complete = complete and all(name != "ground" for name, _, _ in given)
                continue
            for element in found:
                _give(ranked.setdefault(element, {}), given, (0, *specificity, order))
    return Sheet(ranked, complete)


def _cost(selector: str, elements: int) -> int:
    """About how many steps matching takes; `~` looks from all siblings to all siblings at every step."""
    if _SELECTOR.fullmatch(selector.replace(",", " ")):
        each = elements
    else:
        each = elements**2 * (1 + 100 * selector.count("~"))
    return each * (selector.count(",") + 1)


def _written(nodes: Iterable[Any]) -> str | None:
    """The nodes as text; None where they are nested too deeply."""
    import tinycss2

    try:
        return str(tinycss2.serialize(nodes))
    except RecursionError:
        return None


def _rules(text: str) -> Iterator[Any]:
    """The rules for a screen; None for one that may matter and is not read."""
    import tinycss2

    for node in tinycss2.parse_stylesheet(text, skip_comments=True):
        if node.type == "qualified-rule":
            yield node
        elif node.type == "at-rule" and node.lower_at_keyword == "import":
            yield None
        elif node.type == "at-rule" and node.lower_at_keyword in ("media", "supports", "layer"):
            if node.content is None:
                continue
            query = _written(node.prelude) or ""
            if node.lower_at_keyword != "media" or _on_screen(query.lower()):
                inner = tinycss2.parse_rule_list(node.content, skip_comments=True)
                yield from (rule for rule in inner if rule.type == "qualified-rule")


def _on_screen(query: str) -> bool:
    def holds(condition: str) -> bool:
        rest = _WIDTH.sub("", condition)
        if re.sub(r"\b(only|screen|all|and)\b", "", rest).strip():
            return False  # print, or a feature that is not known
        widths = (
            (side == "min", float(number) * _PIXELS[unit])
            for side, number, unit in _WIDTH.findall(condition)
        )
        return all(width <= WINDOW if least else width >= WINDOW for least, width in widths)

    return any(holds(condition) for condition in query.split(","))


def _matched(
    root: "HtmlElement", selector: str
) -> Iterator[tuple["list[HtmlElement] | None", tuple[int, int, int]]]:
    """The elements of each selector of a list; None where it is not understood."""
    import cssselect
    from lxml import etree

    try:
        parsed = cssselect.parse(selector)
    except (cssselect.SelectorError, RecursionError):
        yield None, (0, 0, 0)
        return
    for each in parsed:
        if each.pseudo_element:
            continue
        try:
            found = root.xpath(cssselect.HTMLTranslator().selector_to_xpath(each))
        except (cssselect.SelectorError, etree.XPathError, RecursionError):
            yield None, (0, 0, 0)
        else:
            yield found, each.specificity()


def _give(
    given: Ranked, declarations: Iterable[tuple[str, Value, bool]], rank: tuple[int, ...]
) -> None:
    for name, value, important in declarations:
        new = (int(important), *rank)
        if name not in given or given[name][0] <= new:
            given[name] = (new, value)


def declared(text: str) -> tuple[tuple[str, Value, bool], ...]:
    """What a block of declarations says about being seen: (property, value, is it important) triples.

    >>> declared("DISPLAY: none !important; margin: 0; font-size: 0px")
    (('none', True, True), ('size', 0.0, False))
    """
    import tinycss2

    found: list[tuple[str, Value, bool]] = []
    parts = tinycss2.parse_blocks_contents(text, skip_comments=True, skip_whitespace=True)
    for part in parts:
        if part.type == "declaration":
            tokens = [token for token in part.value if token.type not in ("whitespace", "comment")]
            if tokens:
                read = _read(part.lower_name, tokens)
                found += [(name, value, part.important) for name, value in read]
    return tuple(found)


@lru_cache(512)
def _inline(text: str) -> tuple[tuple[str, Value, bool], ...]:
    return declared(text)


def _read(name: str, tokens: list[Any]) -> list[tuple[str, Value]]:  # noqa: C901
    first = tokens[0]
    word = str(first.lower_value) if first.type == "ident" else ""
    match name:
        case "display":
            return [("none", word == "none")]
        case "visibility":
            return [("unseen", word in ("hidden", "collapse"))] if word != "inherit" else []
        case "font-size":
            return [("size", _size(first))]
        case "font":
            sizes = [t for t in tokens if t.type in ("dimension", "percentage") or _is_zero(t)]
            return [("size", _size(sizes[0]))] if sizes else []
        case "opacity":
            return [("opacity", _length(first))]
        case "color":
            return [("colour", _colour(tokens))]
        case "background" | "background-color":
            return [("ground", _colour(tokens))]
        case "background-image":
            return [("ground", Unsure())] if word != "none" else []
        case "position":
            return [("position", word)]
        case "left" | "top" | "right" | "bottom" | "margin-left" | "margin-top":
            length = _length(first)
            return [(name, isinstance(length, float) and length <= _FAR)]
        case "text-indent":
            length = _length(first)
            return [("indent", isinstance(length, float) and length <= _FAR)]
        case "clip":
            lengths = [
                _length(t)
                for t in getattr(first, "arguments", ())
                if t.type in ("number", "dimension")
            ]
            return [("clip", bool(lengths) and all(x in (0.0, 1.0) for x in lengths))]
        case "clip-path":
            inset = [t for t in getattr(first, "arguments", ()) if t.type == "percentage"]
            return [("clip-path", bool(inset) and inset[0].value >= 50)]
        case "width" | "max-width" | "height" | "max-height":
            length = _length(first)
            return [(name, isinstance(length, float) and length <= 1.0)]
        case "overflow" | "overflow-x" | "overflow-y":
            return [("overflow", word in ("hidden", "clip"))]
        case _:
            return []


def _size(token: Any) -> Value:  # noqa: ANN401 - tinycss2 ships no types
    """A font's size in pixels; Unsure for a share of the size around it."""
    relative = token.type == "dimension" and token.lower_unit == "em"
    bare = token.type == "number"
    return Unsure() if (relative or bare) and token.value else _length(token)


def _is_zero(token: Any) -> bool:  # noqa: ANN401 - tinycss2 ships no types
    return bool(token.type == "number" and token.value == 0)


def _length(token: Any) -> Value:  # noqa: ANN401 - tinycss2 ships no types
    """Pixels, or the bare number; a share of something that is not zero is Unsure."""
    if token.type in ("number", "dimension", "percentage") and token.value == 0:
        return 0.0
    if token.type == "number":
        return float(token.value)
    if token.type == "dimension" and token.lower_unit in _PIXELS:
        return float(token.value) * _PIXELS[token.lower_unit]
    return Unsure()


def _colour(tokens: list[Any]) -> Value:
    """Red, green and blue from 0 to 1; "" is transparent."""
    from tinycss2 import color4

    found: Value = Unsure()
    for token in tokens:
        if token.type in ("url", "function") and color4.parse_color(token) is None:
            return Unsure()
        if token.type == "ident" and token.lower_value == "none" and len(tokens) == 1:
            return ""
        colour = color4.parse_color(token)
        if colour == "currentcolor":
            return Unsure()
        if colour is not None:
            rgb = colour.to("srgb")
            opaque = float(rgb.alpha)
            if opaque == 0:
                found = ""
            elif opaque == 1:
                found = (float(rgb[0]), float(rgb[1]), float(rgb[2]))
    return found
