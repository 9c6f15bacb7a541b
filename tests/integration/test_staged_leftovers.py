"""A worker that dies between its commit and its tidying leaves staged files; the next publish or start removes them."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from library import Library

from indexer.index.inspection import inspect
from indexer.index.sweeping import all_targets, sweep


def publish(library: Library) -> None:
    library.add("b.txt", "The teapot stands in the kitchen.")


def start(library: Library) -> None:
    assert sweep(library.database, library.folders, all_targets(library.database)) == frozenset()


@pytest.mark.parametrize("then", [publish, start])
def test_the_next_publish_or_start_removes_what_is_staged_of_versions_that_are_live(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, then: Callable[[Library], None]
) -> None:
    library = Library.open(tmp_path)
    saved = tmp_path / "saved"
    with monkeypatch.context() as dying:
        dying.setattr(
            "indexer.index.publish.discard_staged",
            lambda path: shutil.copytree(path.parent, saved),
        )
        library.add("a.txt", "The walrus sleeps on the ice.")
    [whole] = saved.glob("*.npz")
    staged = next(tmp_path.glob("collections/*/*/staged"))
    (staged / f".{whole.name}.5cb7.tmp").write_bytes(b"half")  # an earlier attempt died writing
    told = [finding.says for finding in inspect(library.database, library.folders, settled_s=0)]
    assert any("staged" in says for says in told)
    then(library)
    assert list(inspect(library.database, library.folders, settled_s=0)) == []
    library.close()
