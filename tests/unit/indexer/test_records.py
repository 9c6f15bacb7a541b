"""JSON becomes lines that say what they are of."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.parse.parser import build_parser
from indexer.parse.records import JsonParser
from pipeline.errors import TooLarge
from pipeline.types import ElementKind

PARSER = build_parser()
WORDS = st.text("保修期为二十四个月退貨abcXYZ019", min_size=1, max_size=12)
PLAIN = WORDS | st.integers(-(10**20), 10**20) | st.booleans()
JSONS = st.recursive(
    PLAIN,
    lambda inner: (
        st.lists(inner, min_size=1, max_size=4)
        | st.dictionaries(WORDS, inner, min_size=1, max_size=4)
    ),
    max_leaves=15,
)


def texts(value: object, name: str = "a.json") -> list[str]:
    data = json.dumps(value, ensure_ascii=False).encode()
    return [element.text for element in PARSER.parse(data, name).elements]


def test_an_object_gives_headings_and_a_list_of_objects_records() -> None:
    value = {
        "title": "产品目录",
        "version": 2,
        "tags": ["清洁", "机器人"],
        "contact": {"phone": "010-1234", "mail": None},
        "products": [
            {"name": "CX-200", "price": 12.50, "specs": {"weight": "3 kg", "ports": [1, 2]}},
            {"name": "CX-300", "parts": [{"id": 1e3}, {"id": True}]},
        ],
    }
    data = json.dumps(value, ensure_ascii=False).replace("12.5", "12.50").encode("gb18030")
    parsed = PARSER.parse(data, "a.json")
    assert parsed.title == "产品目录"
    kinds = ElementKind
    assert [(e.text, e.kind, e.heading) for e in parsed.elements] == [
        ("title: 产品目录\nversion: 2\ntags: 清洁, 机器人", kinds.PARAGRAPH, ()),
        ("contact", kinds.HEADING, ()),
        ("phone: 010-1234\nmail:", kinds.PARAGRAPH, ("contact",)),
        ("products", kinds.HEADING, ()),
        (
            "name: CX-200\nprice: 12.50\nspecs.weight: 3 kg\nspecs.ports: 1, 2",
            kinds.PARAGRAPH,
            ("products",),
        ),
        (
            "name: CX-300\nparts[1].id: 1000.0\nparts[2].id: true",
            kinds.PARAGRAPH,
            ("products",),
        ),
    ]


@pytest.mark.parametrize("name", ["a.jsonl", "a.ndjson", "a.json", "unnamed"])
def test_each_line_is_a_record(name: str) -> None:
    data = '{"问": "保修多久？", "答": "二十四个月"}\r\n\r\n{"问": "电话", "答": "400"}\n'.encode()
    assert [element.text for element in PARSER.parse(data, name).elements] == [
        "问: 保修多久？\n答: 二十四个月",
        "问: 电话\n答: 400",
    ]


def test_a_broken_line_stays_as_it_is_and_what_is_no_json_is_text() -> None:
    data = b'{"a": 1}\n{"b": 2}\n{"c": broken\n'
    assert [element.text for element in PARSER.parse(data, "a.jsonl").elements] == [
        "a: 1",
        "b: 2",
        '{"c": broken',
    ]
    assert [element.text for element in PARSER.parse("{只是文字".encode(), "a.json").elements] == [
        "{只是文字"
    ]


@given(JSONS)
@settings(deadline=None, max_examples=100)
def test_every_value_is_read_in_order_and_every_key_is_named(value: object) -> None:
    whole = "\n".join(texts(value))
    at = 0
    for text in values_of(value):
        at = whole.index(text, at) + len(text)
    assert all(key in whole for key in keys_of(value))


def values_of(value: object) -> list[str]:
    match value:
        case dict():
            return [text for item in value.values() for text in values_of(item)]
        case list():
            return [text for item in value for text in values_of(item)]
        case bool():
            return ["true" if value else "false"]
        case _:
            return [str(value)]


def keys_of(value: object) -> set[str]:
    match value:
        case dict():
            return set(value).union(*map(keys_of, value.values()))
        case list():
            return set().union(*map(keys_of, value))
        case _:
            return set()


def test_too_deep_and_too_many_are_refused() -> None:
    with pytest.raises(TooLarge, match="more than 200 levels of nesting"):
        PARSER.parse(b"[" * 200_000, "a.json")
    with pytest.raises(TooLarge, match="more values"):
        JsonParser(max_values=3).parse(b"[1, 2, 3]", "a.json")
    assert len(PARSER.parse(b"[" + b"9" * 5000 + b"]", "a.json").elements[0].text) == 5000
