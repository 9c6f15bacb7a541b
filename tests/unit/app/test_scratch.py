import os
import tempfile
from pathlib import Path

import pytest

from app.scratch import PREFIX, scratch, sweep


@pytest.fixture
def root(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    return tmp_path


def test_temporary_files_go_with_the_folder(root: Path) -> None:
    with scratch() as folder:
        assert folder.parent == root
        assert folder.stat().st_mode & 0o777 == 0o700
        made = Path(tempfile.mkdtemp())
        assert made.parent == folder
    assert list(root.iterdir()) == []
    assert tempfile.gettempdir() == str(root)


def test_only_what_no_server_holds_any_more_is_swept(root: Path) -> None:
    killed, foreign = root / f"{PREFIX}killed", root / "other"
    for folder in (killed, foreign):
        folder.mkdir()
        (folder / "file").touch()
    with scratch() as running:
        for folder in (killed, foreign, running):
            os.utime(folder, (0, 0))
        sweep(root)
        assert sorted(root.iterdir()) == sorted((foreign, running))


def test_a_folder_that_was_just_made_stays(root: Path) -> None:
    (root / f"{PREFIX}young").mkdir()
    sweep(root)
    assert (root / f"{PREFIX}young").exists()
