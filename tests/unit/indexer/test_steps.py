"""Pages in steps: whatever is kept of a document, every page is read once, in order."""

from itertools import pairwise

from hypothesis import given
from hypothesis import strategies as st

from indexer.parse.steps import Steps


@given(st.integers(1, 200), st.data())
def test_what_is_kept_and_what_is_handed_out_is_the_whole_document(
    count: int, data: st.DataObject
) -> None:
    cuts = sorted(data.draw(st.sets(st.integers(0, count), max_size=12)) | {0, count})
    parts = [range(*pair) for pair in pairwise(cuts)]
    there = data.draw(st.sets(st.sampled_from(parts)))
    kept = [
        (pages, repr(pages).encode())
        for pages in data.draw(st.permutations(sorted(there, key=str)))
    ]
    steps, handed = Steps(count, kept, None), []
    while steps.left:
        most = data.draw(st.integers(1, 64))
        handed.append(steps.step(most))
        assert 1 <= len(handed[-1]) <= most
    pages = [page for step in handed for page in step]
    assert pages == sorted(pages)
    assert sorted([*pages, *(page for one in there for page in one)]) == list(range(count))
    assert sorted(steps.kept) == sorted(piece for _, piece in kept)
