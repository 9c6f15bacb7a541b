import itertools

from hypothesis import given, settings
from hypothesis import strategies as st

from indexer.text.chunk import Chunking, cut
from indexer.text.stored import store
from pipeline.rows import under_columns
from pipeline.types import Element, ElementKind, Parsed

CHUNKING = Chunking(aim=60, most=100, least=20)


def count(text: str) -> int:
    """A tokeniser with five tokens of prefix and marks; words of Latin, characters of Han."""
    return (
        5
        + sum(max(1, len(word) // 4) for word in text.split())
        + sum("\u4e00" <= c <= "\u9fff" for c in text)
    )


SENTENCE = st.sampled_from(
    [
        "保修期从交付之日起二十四个月。",
        "The warranty covers parts and labour.",
        "电池、轮胎和滤网除外；人为损坏不在保修范围内！",
        "Dr. Li signed the contract on 3 May 2026.",
        "x" * 40,
        "长" * 150,
        "a, b; c",
    ]
)
TEXT = st.lists(SENTENCE, min_size=1, max_size=14).map(" ".join)
HEADING = st.tuples(st.sampled_from(["第一章", "保修", "Scope", "Terms"]), st.integers(1, 3))


@st.composite
def documents(draw: st.DrawFn) -> Parsed:
    elements: list[Element] = []
    path: tuple[str, ...] = ()
    page = 1
    for _ in range(draw(st.integers(1, 14))):
        page += draw(st.integers(0, 1))
        kind = draw(st.sampled_from(list(ElementKind)))
        if kind is ElementKind.HEADING:
            title, level = draw(HEADING)
            path = (*path[: level - 1], title)
            elements.append(Element(title, kind, page, path[:-1], level))
        elif kind is ElementKind.TABLE:
            rows = draw(
                st.lists(
                    st.sampled_from(["甲 | 1 | 2", "warranty | 24 | months"]),
                    min_size=1,
                    max_size=30,
                )
            )
            text = "\n".join(["名称 | 数量 | 单位", *rows])
            elements.append(Element(text, kind, page, path, columns=("名称", "数量", "单位")))
        else:
            elements.append(Element(draw(TEXT), kind, page, path))
    return Parsed(tuple(elements))


@given(documents())
@settings(deadline=None, max_examples=150)
def test_offsets_reproduce_the_text_nothing_is_lost_and_no_chunk_is_too_long(
    parsed: Parsed,
) -> None:
    stored = store(parsed)
    cuts = cut(stored, "员工手册", count, CHUNKING)
    assert all(c.text == stored.text[c.start : c.end] == c.text.strip() != "" for c in cuts)
    assert all(a.end <= b.start for a, b in itertools.pairwise(cuts))
    assert all(count(f"{c.context}\n{c.passage.text}") <= CHUNKING.most for c in cuts)
    scored = [under_columns(c.context, c.text, c.tables) for c in cuts]
    assert all(count(f"{s.context}\n{s.text}") <= CHUNKING.most for s in scored)
    body = "".join(e.text for e in parsed.elements if e.kind is not ElementKind.FURNITURE)
    assert "".join("".join(c.text for c in cuts).split()) == "".join(body.split())


@given(documents())
@settings(deadline=None, max_examples=50)
def test_the_stored_text_holds_every_element_at_its_place(parsed: Parsed) -> None:
    stored = store(parsed)
    assert all(stored.text[p.start : p.end] == p.element.text for p in stored.placed)
    assert sorted(p.element.text for p in stored.placed) == sorted(e.text for e in parsed.elements)


def test_furniture_is_kept_but_never_chunked() -> None:
    page = "保修 第 1 页"
    stored = store(
        Parsed(
            (
                Element(page, ElementKind.FURNITURE, 1),
                Element("一句话在第一页", page=1),
                Element("接着第二页。", page=2),
            )
        )
    )
    [made] = cut(stored, None, count, CHUNKING)
    assert page in stored.text
    assert page not in made.text
    assert made.text.endswith("接着第二页。")


def test_a_heading_goes_with_what_follows_it() -> None:
    long = "保修期从交付之日起二十四个月。" * 3
    stored = store(
        Parsed(
            (
                Element(long, page=1),
                Element("范围", ElementKind.HEADING, 1, (), 1),
                Element("只限主机。", page=2, heading=("范围",)),
            )
        )
    )
    first, second = cut(stored, None, count, CHUNKING)
    assert first.text == long
    assert second.text.startswith("范围")
    assert (second.page, second.heading) == (1, ("范围",))


def test_the_context_is_title_and_heading_path_without_what_the_chunk_begins_with() -> None:
    stored = store(
        Parsed(
            (
                Element("范围", ElementKind.HEADING, 1, ("保修",), 2),
                Element("只限主机。", heading=("保修", "范围")),
            )
        )
    )
    [made] = cut(stored, "用户手册", count, CHUNKING)
    assert made.context == "用户手册 › 保修"


def test_a_row_of_a_table_that_is_cut_says_what_its_cells_mean() -> None:
    rows = [f"部件{n} | {n} | 件" for n in range(60)]
    table = Element(
        "\n".join(["名称 | 数量 | 单位", *rows]),
        ElementKind.TABLE,
        columns=("名称", "数量", "单位"),
    )
    first, *others = cut(store(Parsed((table,))), None, count, CHUNKING)
    assert first.text.startswith("名称")
    assert others
    read = "\n".join(c.passage.text for c in (first, *others)).split("\n")
    assert read == [
        "名称 | 数量 | 单位",
        *(f"名称: 部件{n}; 数量: {n}; 单位: 件" for n in range(60)),
    ]


def test_a_short_section_is_joined_with_the_next_a_long_one_is_not() -> None:
    def section(title: str, sentences: int) -> list[Element]:
        text = "保修期二十四个月。" * sentences
        return [
            Element(title, ElementKind.HEADING, 1, (), 1),
            Element(text, page=1, heading=(title,)),
        ]

    short = cut(store(Parsed((*section("甲", 1), *section("乙", 1)))), None, count, CHUNKING)
    long = cut(store(Parsed((*section("甲", 3), *section("乙", 2)))), None, count, CHUNKING)
    assert [len(short), len(long)] == [1, 2]


@given(documents())
@settings(deadline=None, max_examples=50)
def test_a_chunk_says_on_which_page_each_of_its_elements_stands(parsed: Parsed) -> None:
    stored = store(parsed)
    for made in cut(stored, None, count, CHUNKING):
        begins = [(0, made.page), *made.turns]
        for placed in stored.placed:
            if made.start < placed.start < made.end:
                page = next(p for at, p in reversed(begins) if at <= placed.start - made.start)
                assert page == placed.element.page


def test_a_wide_and_nearly_empty_table_is_cut_where_its_bars_alone_fill_a_chunk() -> None:
    names = tuple(f"列{n}" for n in range(400))
    rows = [
        " ".join(["|"] * 399)[: 2 * n] + f" 值{n} " + " ".join(["|"] * (399 - n))
        for n in range(0, 400, 40)
    ]
    rows = [row.strip() for row in rows]
    table = Element("\n".join([" | ".join(names), *rows]), ElementKind.TABLE, columns=names)

    def bars_count(text: str) -> int:
        return count(text) + text.count("|")

    cuts = cut(store(Parsed((table,))), None, bars_count, CHUNKING)
    read = "\n".join(c.passage.text for c in cuts)
    assert all(f"列{n}: 值{n}" in read for n in range(0, 400, 40))
    for made in cuts:
        scored = under_columns(made.context, made.text, made.tables)
        assert bars_count(f"{scored.context}\n{scored.text}") <= CHUNKING.most
