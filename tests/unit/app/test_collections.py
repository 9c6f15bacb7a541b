from hypothesis import given, settings
from hypothesis import strategies as st

from app.routes.collections import cut
from indexer.catalog.views import CollectionView


@settings(deadline=None)
@given(names=st.sets(st.text(min_size=1, max_size=5), max_size=12), limit=st.integers(1, 5))
def test_pages_of_collections_hold_each_once_in_order(names: set[str], limit: int) -> None:
    views = [CollectionView(name, True, 0, 0, 0.0) for name in names]
    seen: list[str] = []
    after: str | None = None
    while True:
        page, last = cut(views, limit, after)
        assert len(page) <= limit
        seen += [view.name for view in page]
        if last is None:
            break
        after = last.name
    assert seen == sorted(names)
