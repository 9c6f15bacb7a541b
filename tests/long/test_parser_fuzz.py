"""Thousands of files with changed bytes, lengths and members: each is read, or refused with a sentence."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from fuzz import end, mutated

from indexer.parse.pool import ParserPool


@pytest.fixture(scope="module")
def readers() -> Iterator[ParserPool]:
    with closing(ParserPool(children=1)) as made:
        yield made


def test_changed_files_are_read_or_refused_and_no_mistake_of_ours_shows(
    readers: ParserPool, seeds: range
) -> None:
    ends = Counter(end(readers, *mutated(seed)) for seed in seeds)
    assert ends["Unavailable"] == 0, ends
    print(dict(ends))  # shown by -rP
