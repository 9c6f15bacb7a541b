"""A model folder is whole or not there, whatever happens to its writers."""

import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from models import model_folder
from models.model_folder import MANIFEST, Contents, Source, ensure_folder, open_manifest
from pipeline.errors import ModelUnavailable

FILES = {"graph": b"many weights", "words": b"many words"}


def contents() -> Contents:
    return Contents(Source("package", "1.0", "ab" * 32), iter(FILES.items()))


def ensure(models: Path, recipe: int = 1) -> Path:
    return ensure_folder(models / "small", recipe=recipe, make=contents)


def files(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def test_a_missing_folder_is_written_and_a_sound_one_left_alone(tmp_path):
    folder = ensure(tmp_path / "deep" / "models")
    written = files(folder)
    place = folder.stat().st_ino
    assert written.pop(MANIFEST)
    assert written == FILES
    assert ensure(tmp_path / "deep" / "models") == folder
    assert folder.stat().st_ino == place


@pytest.mark.parametrize(
    "damage",
    [
        lambda folder: (folder / "graph").write_bytes(b"MANY weights"),
        lambda folder: (folder / "words").write_bytes(b""),
        lambda folder: (folder / "words").unlink(),
        lambda folder: (folder / MANIFEST).unlink(),
        lambda folder: (folder / MANIFEST).write_text('{"recipe": 1, "source": {}, "files": 3}'),
        lambda folder: (folder / MANIFEST).write_text("[]"),
        lambda folder: (folder / MANIFEST).write_bytes((folder / MANIFEST).read_bytes()[:50]),
    ],
    ids=["other bytes", "emptied", "gone", "no manifest", "odd manifest", "list", "half manifest"],
)
def test_damage_is_found_and_mended(tmp_path, damage):
    folder = ensure(tmp_path)
    sound = files(folder)
    damage(folder)
    with pytest.raises(ModelUnavailable, match="Delete the folder"):
        open_manifest(folder, contents=True)
    ensure(tmp_path)
    assert files(folder) == sound
    assert sorted(path.name for path in tmp_path.iterdir()) == [".small.lock", "small"]


def test_a_changed_byte_is_only_found_by_its_checksum(tmp_path):
    folder = ensure(tmp_path)
    (folder / "graph").write_bytes(b"MANY weights")
    assert open_manifest(folder).recipe == 1
    with pytest.raises(ModelUnavailable, match="graph is not what was written"):
        open_manifest(folder, contents=True)


def test_a_folder_of_another_recipe_is_written_anew(tmp_path):
    ensure(tmp_path, recipe=1)
    assert open_manifest(ensure(tmp_path, recipe=2)).recipe == 2


def test_a_writer_that_fails_leaves_nothing_behind(tmp_path):
    def half():
        yield "graph", b"many weights"
        raise OSError(28, "No space left on device")

    with pytest.raises(ModelUnavailable, match="No space left"):
        ensure_folder(
            tmp_path / "small", recipe=1, make=lambda: Contents(contents().source, half())
        )
    assert [path.name for path in tmp_path.iterdir()] == [".small.lock"]
    assert files(ensure(tmp_path))["graph"] == b"many weights"


WRITER = """
import sys, time
from pathlib import Path
from models.model_folder import Contents, Source, ensure_folder
def slow():
    yield "graph", b"many weights"
    print("graph", flush=True)
    time.sleep(float(sys.argv[2]))
    yield "words", b"many words"
make = lambda: Contents(Source("package", "1.0", "ab" * 32), slow())
print(ensure_folder(Path(sys.argv[1]), recipe=1, make=make), flush=True)
"""


def start_writer(folder: Path, *, pause: float) -> subprocess.Popen:
    return subprocess.Popen(
        [sys.executable, "-c", WRITER, str(folder), str(pause)],
        stdout=subprocess.PIPE,
        text=True,
        cwd=Path(model_folder.__file__).parents[1],
        env=dict(os.environ),
    )


def test_a_killed_writer_leaves_no_folder_and_the_next_one_repairs(tmp_path):
    writer = start_writer(tmp_path / "small", pause=60)
    assert writer.stdout.readline() == "graph\n"
    writer.send_signal(signal.SIGKILL)
    writer.communicate(timeout=10)
    assert (tmp_path / ".small.partial" / "graph").exists()
    assert not (tmp_path / "small").exists()
    open_manifest(ensure(tmp_path), contents=True)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".small.lock", "small"]


def test_two_processes_at_once_write_one_sound_folder(tmp_path):
    writers = [start_writer(tmp_path / "small", pause=0.5) for _ in range(2)]
    outputs = [writer.communicate(timeout=60)[0].splitlines() for writer in writers]
    assert sorted(outputs) == sorted(
        [["graph", str(tmp_path / "small")], [str(tmp_path / "small")]]
    )
    open_manifest(tmp_path / "small", contents=True)


def test_who_waits_for_a_writer_does_not_wait_for_ever(tmp_path):
    writer = start_writer(tmp_path / "small", pause=60)
    assert writer.stdout.readline() == "graph\n"
    with pytest.raises(ModelUnavailable, match="Another process"):
        ensure_folder(tmp_path / "small", recipe=1, make=contents, wait_s=0.2)
    writer.kill()
    writer.communicate(timeout=10)


def test_an_unwritable_place_is_said(tmp_path):
    (tmp_path / "models").write_text("a file, not a folder")
    with pytest.raises(ModelUnavailable, match="can't be written"):
        ensure(tmp_path / "models")
