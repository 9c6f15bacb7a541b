"""Text that a browser does not show is no text of the page: planted for machines, or meant for another moment."""

from dataclasses import dataclass
from typing import TYPE_CHECKING

from indexer.parse.styles import Colour, Look, Sheet, Unsure, declared, sheet

if TYPE_CHECKING:
    from lxml.html import HtmlElement

_WHITE: Colour = (1.0, 1.0, 1.0)
_BLACK: Colour = (0.0, 0.0, 0.0)
_LIKE = 0.02
"""Two colours closer than this in each part cannot be told apart."""
_FAINT = 0.02
_SMALLEST = 1.0


@dataclass(frozen=True, slots=True)
class _Seen:
    """What an element hands down to those in it. `ground` is None where it is not known."""

    unseen: bool = False
    tiny: bool = False
    indent: bool = False
    clear: bool = False
    colour: Colour | None = _BLACK
    ground: Colour | None = _WHITE

    def shows_text(self) -> bool:
        lost = (
            self.colour is not None and self.ground is not None and _same(self.colour, self.ground)
        )
        return not (self.unseen or self.tiny or self.indent or self.clear or lost)


def drop_hidden(root: "HtmlElement") -> None:
    """Take out, in place, what is not shown: by `hidden`, by `style` attributes, by `<style>` elements.

    What shows the page as a whole (`html`, `body`) is never dropped: pages hide it until a script has run.
    """
    rules = sheet(root)
    start = _Seen(ground=_WHITE if rules.complete else None)
    waiting = [(root, start)]
    while waiting:
        element, above = waiting.pop()
        if not isinstance(element.tag, str):
            continue
        whole = element.tag in ("html", "body")
        look = _look(rules, element)
        if whole:
            look = {name: value for name, value in look.items() if name in ("ground", "colour")}
        elif element.getparent() is not None and _is_gone(look):
            element.drop_tree()
            continue
        seen = _handed_down(above, look)
        waiting += [(child, seen) for child in element]
        if not whole and not seen.shows_text():
            _blank(element)


def _look(rules: Sheet, element: "HtmlElement") -> Look:
    look = rules.look(element, element.get("style", ""))
    if element.get("hidden") is not None:
        look.setdefault("none", True)  # any `display` is stronger than the attribute
    for attribute, name in (("bgcolor", "background"), ("color", "color")):
        value = element.get(attribute)
        if value and len(value) < 50 and (attribute == "bgcolor" or element.tag == "font"):
            for prop, read, _ in declared(f"{name}:{value}"):
                look.setdefault(prop, read)
    if element.get("background"):
        look["ground"] = Unsure()
    return look


def _is_gone(look: Look) -> bool:
    """Whether an element is not shown, with all that is in it."""
    loose = look.get("position") in ("absolute", "fixed")
    far = any(look.get(side) is True for side in ("margin-left", "margin-top")) or (
        loose and any(look.get(side) is True for side in ("left", "top", "right", "bottom"))
    )
    flat = any(look.get(side) is True for side in ("width", "max-width", "height", "max-height"))
    opacity = look.get("opacity")
    return (
        look.get("none") is True
        or (isinstance(opacity, float) and opacity <= _FAINT)
        or far
        or (loose and look.get("clip") is True)
        or look.get("clip-path") is True
        or (flat and look.get("overflow") is True)
    )


def _handed_down(above: _Seen, look: Look) -> _Seen:
    size, colour = look.get("size"), look.get("colour")
    tiny = above.tiny
    if isinstance(size, float):
        tiny = size <= _SMALLEST
    return _Seen(
        unseen=bool(look.get("unseen", above.unseen)),
        tiny=tiny,
        indent=bool(look.get("indent", above.indent)),
        clear=above.clear if colour is None else colour == "" and look.get("ground") != Unsure(),
        colour=above.colour if colour is None else colour if isinstance(colour, tuple) else None,
        ground=_ground(look, above),
    )


def _ground(look: Look, above: _Seen) -> Colour | None:
    if look.get("position") in ("absolute", "fixed") and "ground" not in look:
        return None  # it lies on something else than what it is in
    value = look.get("ground", above.ground)
    if value == "":
        return above.ground
    return value if isinstance(value, tuple) else None


def _same(one: Colour, other: Colour) -> bool:
    return all(abs(a - b) <= _LIKE for a, b in zip(one, other, strict=True))


def _blank(element: "HtmlElement") -> None:
    """Its own text goes; what is in it may be shown again."""
    element.text = None
    for child in element:
        child.tail = None
    element.attrib.pop("alt", None)
