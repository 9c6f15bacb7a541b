"""JSON and JSON Lines: each record as lines of `path: value`, which read alone."""

import json
from collections.abc import Iterable, Iterator
from typing import Any

from indexer.parse import outline
from indexer.parse.encoding import decode
from indexer.parse.media import JSON, JSONL
from indexer.parse.nesting import NESTING, TooDeep
from indexer.parse.text import read_text
from pipeline.errors import TooLarge
from pipeline.types import Element, ElementKind, Parsed

_SHORT = 200
"""Characters of a list of plain values that stands on one line."""
_DEEPEST_HEADING = 3
_COMMAS = 4
"""A value of prose has commas of its own."""


class JsonParser:
    """Reads JSON and JSON Lines. An object's containers become headings, an object in a list or a
    line one paragraph; numbers stay as they were written. What is no JSON is read as plain text.
    """

    def __init__(self, *, max_values: int = outline.MAX_CELLS, nesting: int = NESTING) -> None:
        self._max_values = max_values
        self._nesting = nesting

    @property
    def media_types(self) -> frozenset[str]:
        return frozenset({JSON, JSONL})

    def parse(self, data: bytes, name: str) -> Parsed:
        """Raises TooLarge for more than `max_values` values, TooDeep for more than `nesting` in each other."""
        text = decode(data)
        if text.count(",") > _COMMAS * self._max_values:  # before a tree of them is built
            raise self._too_many(name)
        try:
            values = _values(text)
            if values is None:
                return Parsed(outline.outlined(read_text(text)))
            left = self._max_values - sum(_count(value, self._nesting) for value in values)
            if left < 0:
                raise self._too_many(name)
            elements = [element for value in values for element in _read(value, "", 1)]
        except RecursionError as error:
            raise TooDeep(self._nesting) from error
        return Parsed(outline.outlined(elements), _title(values))

    def _too_many(self, name: str) -> TooLarge:
        return TooLarge(
            f"“{name}” has more values than the limit of {self._max_values:,}. Split it and upload "
            "the parts."
        )


def _values(text: str) -> list[Any] | None:
    """The value of the whole text, or those of its lines, or None where it is neither."""
    try:
        return [_loaded(text)]
    except ValueError:
        pass
    values: list[Any] = []
    broken = 0
    for line in text.split("\n"):
        if not line.strip():
            continue
        try:
            values.append(_loaded(line))
        except ValueError:
            values.append(line)
            broken += 1
    return values if broken * 2 < len(values) else None


def _loaded(text: str) -> Any:  # noqa: ANN401 - any JSON value
    return json.loads(text, parse_int=str, parse_float=str, parse_constant=str)


def _count(value: Any, nesting: int) -> int:  # noqa: ANN401 - any JSON value
    """How many values it holds, itself included; raises TooDeep where it has more than `nesting` levels."""
    found, level = 0, [value]
    for _ in range(nesting + 1):
        found += len(level)
        level = [inner for each in level for inner in _inside(each)]
        if not level:
            return found
    raise TooDeep(nesting)


def _inside(value: Any) -> Iterable[Any]:  # noqa: ANN401 - any JSON value
    match value:
        case dict():
            return value.values()
        case list():
            return value
        case _:
            return ()


def _title(values: list[Any]) -> str | None:
    if len(values) == 1 and isinstance(values[0], dict):
        title = values[0].get("title")
        return outline.one_line(title) or None if isinstance(title, str) else None
    return None


def _read(value: Any, path: str, level: int) -> Iterator[Element]:  # noqa: ANN401 - any JSON value
    """A value that has no line of its own: `path` is what its heading does not say yet."""
    match value:
        case dict() if level <= _DEEPEST_HEADING and any(map(_is_large, value.values())):
            yield from _object(value, path, level)
        case dict():
            yield Element(_tidied(_lines(value, path)))
        case list() if any(isinstance(item, dict | list) for item in value):
            for item in value:
                yield from _record(item, path)
        case _:
            yield Element(_tidied(_lines(value, path)))


def _object(value: dict[str, Any], path: str, level: int) -> Iterator[Element]:
    plain: list[str] = []
    for key, item in value.items():
        if not _is_large(item):
            plain += _lines(item, _joined(path, key))
            continue
        if plain:
            yield Element(_tidied(plain))
            plain = []
        heading = outline.one_line(_joined(path, key))
        if heading:
            yield Element(heading, ElementKind.HEADING, level=level)
        yield from _read(item, "", level + 1)
    if plain:
        yield Element(_tidied(plain))


def _record(item: Any, path: str) -> Iterator[Element]:  # noqa: ANN401 - any JSON value
    yield Element(_tidied(_lines(item, path)))


def _is_large(value: Any) -> bool:  # noqa: ANN401 - any JSON value
    """Whether a value deserves a heading: objects, and lists of more than plain values."""
    if isinstance(value, dict):
        return bool(value)
    return isinstance(value, list) and any(isinstance(item, dict | list) for item in value)


def _lines(value: Any, path: str) -> Iterator[str]:  # noqa: ANN401 - any JSON value
    match value:
        case dict():
            for key, item in value.items():
                yield from _lines(item, _joined(path, key))
            if not value and path:
                yield path
        case list() if any(isinstance(item, dict | list) for item in value):
            for number, item in enumerate(value, start=1):
                yield from _lines(item, f"{path}[{number}]")
        case list():
            texts = [_said(item) for item in value]
            if sum(map(len, texts)) <= _SHORT:
                yield f"{path}: {', '.join(texts)}" if path else ", ".join(texts)
            else:
                for number, text in enumerate(texts, start=1):
                    yield f"{path}[{number}]: {text}" if path else text
        case _:
            yield f"{path}: {_said(value)}" if path else _said(value)


def _joined(path: str, key: str) -> str:
    return f"{path}.{key}" if path else key


def _said(value: Any) -> str:  # noqa: ANN401 - any JSON value without parts
    match value:
        case None:
            return ""
        case bool():
            return "true" if value else "false"
        case _:
            return str(value)


def _tidied(lines: Any) -> str:  # noqa: ANN401 - any iterable of strings
    return outline.tidy("\n".join(lines))
