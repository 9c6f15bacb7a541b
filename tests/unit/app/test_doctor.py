"""What `zhinao doctor` says of the processes that files are read in, and of the indexes."""

import json
from pathlib import Path

import pytest
from library import Library
from typer.testing import CliRunner

from app.cli import app
from app.doctor import examine
from app.settings import load
from indexer.index.merge import Merger
from indexer.parse import cage
from indexer.segments.segment import IndexRule
from pipeline.types import JobKind


def test_doctor_says_how_the_parsers_are_kept_from_the_network(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHINAO_PARSER__MEMORY_MB", "1234")
    checks = {check.part: check for check in examine(load(data=tmp_path), "http://127.0.0.1:1")}
    says = checks["parser"].says
    assert checks["parser"].ok
    assert says.startswith((cage.NAMESPACE, cage.GUARD))
    assert "1,234 MB" in says
    assert "LibreOffice" in says


def test_doctor_says_what_each_index_is_made_of_and_what_recall_was_measured(
    tmp_path: Path,
) -> None:
    library = Library.open(tmp_path)
    library.merger = Merger(library.database, library.folders, rule=IndexRule(flat_rows=4))
    for number in range(9):
        library.add(f"{number}.txt", f"The walrus number{number} sleeps.")
    library.catalog.delete_document(library.catalog.documents()[0][0].id)
    library.close()
    printed = CliRunner().invoke(app, ["doctor", "--json", "--data", str(tmp_path)]).stdout
    (check,) = [each for each in json.loads(printed) if each["part"] == "index of default"]
    assert check["ok"]
    told = check["index"]
    assert (told["state"], told["milvus"], told["segments"]) == ("live", None, 2)
    assert (told["rows"], told["dead"]) == (9, 1)
    flat, lists = told["kinds"]
    assert (flat["type"], flat["rows"], flat["recall"]) == ("flat", 1, None)
    assert (lists["rows"], lists["target"]) == (8, 0.97)
    assert lists["type"].startswith("IVF")
    assert lists["type"].endswith(",SQ8")
    assert lists["recall"] >= 0.97
    assert f"nprobe {lists['nprobe']}, recall@10 {lists['recall']:.3f} measured" in check["says"]

    manifest = max(tmp_path.glob("collections/*/1/segments/*/manifest.json"))
    manifest.write_text("{")
    (broken,) = [
        each
        for each in examine(load(data=tmp_path), "http://127.0.0.1:1")
        if each.part == "index of default"
    ]
    assert not broken.ok
    assert "zhinao doctor --deep" in broken.says


@pytest.mark.parametrize("harm", ["another-file", "a-page"])
def test_doctor_names_a_damaged_database_with_what_brings_it_back_and_goes_on(
    tmp_path: Path, harm: str
) -> None:
    library = Library.open(tmp_path)
    library.add("a.txt", "The walrus sleeps.")
    for number in range(200):
        library.jobs.submit(JobKind.MERGE, about=f"job {number}" * 20)
    library.close()
    path = tmp_path / "zhinao.db"
    data = bytearray(path.read_bytes())
    start, stop = (0, len(data)) if harm == "another-file" else page_of(data, b"job 150job 150")
    data[start:stop] = b"\xff" * (stop - start)
    path.write_bytes(data)
    ran = CliRunner().invoke(app, ["doctor", "--json", "--data", str(tmp_path)])
    assert ran.exit_code == 1
    checks = {check["part"]: check for check in json.loads(ran.stdout)}
    assert not checks["database"]["ok"]
    assert "is damaged" in checks["database"]["says"]
    assert "zhinao restore" in checks["database"]["says"]
    assert not checks["jobs"]["ok"]
    assert checks["parser"]["ok"]
    assert "server" in checks


def page_of(data: bytes, words: bytes) -> tuple[int, int]:
    """Where SQLite's page with these words begins and ends."""
    start = data.index(words) // 4096 * 4096
    return start, start + 4096
