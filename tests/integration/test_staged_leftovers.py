"""A worker that dies between its commit and its tidying leaves staged files; the next publish removes them."""

import shutil
from pathlib import Path

from library import Library

from indexer.index.inspection import inspect


def test_the_next_publish_removes_what_is_staged_of_versions_that_are_live(
    tmp_path: Path, monkeypatch
) -> None:
    library = Library.open(tmp_path)
    saved = tmp_path / "saved"
    with monkeypatch.context() as dying:
        dying.setattr(
            "indexer.index.publish.discard_staged",
            lambda path: shutil.copytree(path.parent, saved),
        )
        library.add("a.txt", "The walrus sleeps on the ice.")
    assert list(saved.glob("*.npz"))
    told = [finding.says for finding in inspect(library.database, library.folders, settled_s=0)]
    assert any("staged" in says for says in told)
    library.add("b.txt", "The teapot stands in the kitchen.")
    assert list(inspect(library.database, library.folders, settled_s=0)) == []
    library.close()
