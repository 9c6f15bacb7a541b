from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.parser import FileParser
from indexer.parse.storable import storable
from pipeline.types import Element, Parsed

TEXTS = st.text(st.characters(categories=("L", "N", "Cc", "Cs", "Zs")), max_size=8)


@given(TEXTS, TEXTS, TEXTS)
def test_what_is_stored_is_utf_8_without_nul_and_nothing_moves(a: str, b: str, c: str) -> None:
    read = Parsed((Element(a, heading=(b,), columns=(b, c)), Element("kept")), title=c)
    kept = storable(read)
    element = kept.elements[0]
    for before, after in [(a, element.text), (b, element.heading[0]), (c, kept.title)]:
        assert len(after) == len(before)
        assert "\x00" not in after.encode().decode()
        assert all(x == y or y == "\ufffd" for x, y in zip(before, after, strict=True))
    assert kept.elements[1] is read.elements[1]


def test_no_parser_gets_past_it() -> None:
    class Careless:
        media_types = frozenset({"text/plain"})

        def parse(self, data: bytes, name: str) -> Parsed:
            return Parsed((Element("words"),), title="a\x00b")

    assert FileParser(Careless()).parse(b"x", "a.txt").title == "a\ufffdb"
