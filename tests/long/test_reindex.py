"""A collection of 2,000 chunks is indexed anew under searches, uploads and deletes."""

from contextlib import closing
from pathlib import Path

from library import Library
from reindexing import under_load


def test_two_thousand_chunks_change_their_embedder_there_and_back(tmp_path: Path) -> None:
    with closing(Library.open(tmp_path)) as library:
        under_load(library, 2000, again=True)
