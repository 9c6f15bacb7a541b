"""Documents that are nearly the same name each other, as long as both are there and stay so."""

import random

from databases import on_both
from library import Library

pytestmark = on_both


def written(seed: int) -> list[str]:
    dice = random.Random(seed)
    words = "kettle violin walrus teapot lantern anchor saddle compass stands sleeps in on the a".split()
    return [" ".join(dice.choices(words, k=12)) + "." for _ in range(40)]


def like(library: Library, document: str) -> dict[str, float]:
    return {name: share for _, name, share in library.catalog.document(document).similar}


def test_near_duplicates_name_each_other_until_one_changes_or_goes(library: Library) -> None:
    lines, other = written(1), written(2)
    first = library.add("handbook.txt", "\n".join(lines)).document
    assert like(library, first) == {}
    edited = [*lines[:-1], other[-1]]
    second = library.add("handbook (1).txt", "\n".join(edited)).document
    library.add("else.txt", "\n".join(other))
    assert like(library, first).keys() == {"handbook (1).txt"}
    assert like(library, first)["handbook (1).txt"] == like(library, second)["handbook.txt"] > 0.8
    views = {view.id: view.similar for view in library.catalog.documents()[0]}
    assert [name for _, name, _ in views[second]] == ["handbook.txt"]

    library.add("handbook (1).txt", "\n".join(written(3)))
    assert like(library, first) == like(library, second) == {}
    library.add("handbook (1).txt", "\n".join(edited))
    assert like(library, second).keys() == {"handbook.txt"}
    library.catalog.delete_document(first)
    assert like(library, second) == {}


def test_collections_are_compared_apart_and_leave_nothing_behind(library: Library) -> None:
    from sqlmodel import func, select

    from indexer.sql.tables import BandRow, SignatureRow, SimilarRow

    text = "\n".join(written(1))
    library.catalog.create_collection("other")
    here = library.add("a.txt", text).document
    library.add("b.txt", f"{text} End.", "other")
    library.add("c.txt", f"{text} Over.", "other")
    assert like(library, here) == {}
    library.catalog.delete_collection("other")
    library.catalog.delete_document(here)
    with library.database.read() as session:
        for table in (BandRow, SignatureRow, SimilarRow):
            assert session.exec(select(func.count()).select_from(table)).one() == 0


def test_most_five_are_named_the_likest_first(library: Library) -> None:
    lines = written(1)
    for n in range(7):
        library.add(f"{n}.txt", "\n".join([*lines, *written(10 + n)[:n]]))
    last = library.add("last.txt", "\n".join(lines) + " Done.").document
    shares = [share for _, _, share in library.catalog.document(last).similar]
    assert len(shares) == 5
    assert shares == sorted(shares, reverse=True)
