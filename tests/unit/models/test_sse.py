from collections.abc import AsyncIterator
from itertools import pairwise

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.sse import NotEvents, read_events


async def read(*chunks: bytes, total: int = 1000, line: int = 100) -> list[str]:
    async def source() -> AsyncIterator[bytes]:
        for chunk in chunks:
            yield chunk

    return [data async for data in read_events(source(), total_bytes=total, line_bytes=line)]


async def test_data_lines_of_an_event_are_joined() -> None:
    assert await read(b"data: a\ndata:b\n\ndata: c\n\n") == ["a\nb", "c"]


async def test_comments_names_and_empty_events_are_passed_over() -> None:
    assert await read(b": ping\n\nevent: x\nid: 1\nretry: 5\ndata: a\n\n\n\n") == ["a"]


async def test_only_one_space_is_taken_off() -> None:
    assert await read(b"data:   a \r\n\r\n") == ["  a "]


async def test_an_event_that_the_end_cuts_off_is_dropped() -> None:
    assert await read(b"data: a\n\ndata: b\n") == ["a"]


@pytest.mark.parametrize("data", [b"<html>\n", b'{"a": 1}\n', b"data: \xff\n\n", b"Data: x\n"])
async def test_anything_else_is_refused(data: bytes) -> None:
    with pytest.raises(NotEvents):
        await read(data)


async def test_a_line_without_an_end_is_refused() -> None:
    with pytest.raises(NotEvents):
        await read(*[b"data: " + b"x" * 40] * 3)


async def test_more_than_the_total_is_refused() -> None:
    with pytest.raises(NotEvents):
        await read(*[b"data: x\n\n"] * 200)


@given(
    st.lists(st.text(st.characters(exclude_characters="\n\r", codec="utf-8"), min_size=1)),
    st.lists(st.integers(0, 400)),
)
@settings(deadline=None)
async def test_where_the_network_cuts_does_not_matter(events: list[str], cuts: list[int]) -> None:
    stream = "".join(f"data: {data}\n\n" for data in events).encode()
    edges = [0, *sorted(min(cut, len(stream)) for cut in cuts), len(stream)]
    chunks = [stream[start:end] for start, end in pairwise(edges)]
    assert await read(*chunks, total=10**6, line=10**5) == events
