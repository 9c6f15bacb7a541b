"""Files with changed bytes, lengths and members: each is read, or refused with a sentence."""

from collections import Counter
from collections.abc import Iterator
from contextlib import closing

import pytest
from fuzz import KINDS, end, good, mutated

from indexer.parse.pool import ParserPool

SEEDS = 100  # thousands in tests/long


@pytest.fixture(scope="module")
def readers() -> Iterator[ParserPool]:
    with closing(ParserPool(children=1)) as made:
        yield made


def test_a_hundred_changed_files_are_read_or_refused_and_no_mistake_of_ours_shows(
    readers: ParserPool,
) -> None:
    ends = Counter(end(readers, *mutated(seed)) for seed in range(SEEDS))
    assert ends["read"] > SEEDS // 5, ends  # else nothing got far
    assert ends.total() - ends["read"] > SEEDS // 10, ends
    assert ends["Unavailable"] == 0, ends


def test_the_files_that_are_changed_are_good(readers: ParserPool) -> None:
    kinds = set(KINDS) - {".jpg", ".png", ".webp"}  # OCR is slow, and .tif is there
    ends = {kind: end(readers, good(kind), f"a{kind}") for kind in kinds}
    assert set(ends.values()) == {"read"}, ends
    assert len(ends) >= 17
