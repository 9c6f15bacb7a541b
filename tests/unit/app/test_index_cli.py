"""`zhinao index move` and the doctor's look at Milvus, on milvus-lite."""

import json
from pathlib import Path

import pytest
from library import Library
from typer.testing import CliRunner

from app.cli import app
from app.doctor import examine
from app.settings import load
from indexer.index.move import Mover
from indexer.milvus.store import MilvusStore
from indexer.sql.tables import PlaceRow
from pipeline.errors import Conflict, InvalidInput, NotFound

pytest.importorskip("milvus_lite")


def run(*words: str, code: int = 0) -> str:
    done = CliRunner().invoke(app, list(words), catch_exceptions=False)
    assert done.exit_code == code, done.output
    return done.stdout if code == 0 else done.output


def says(name: str, data: Path) -> tuple[bool, str]:
    [check] = [c for c in examine(load(data=data), "http://127.0.0.1:9") if c.part == name]
    return check.ok, check.says


def test_a_collection_is_moved_by_name_and_the_doctor_sees_where_it_is(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data = tmp_path / "data"
    data.mkdir()
    library = Library.open(data)
    library.add("a.txt", "The walrus sleeps. 海象睡在冰上。")
    where = ["--data", str(data)]
    told = run("index", "move", "faiss", "milvus", "default", *where, code=1)
    assert "ZHINAO_INDEX__MILVUS_URL" in told
    url = str(tmp_path / "milvus.db")
    monkeypatch.setenv("ZHINAO_INDEX__MILVUS_URL", url)
    monkeypatch.setitem(Mover.__init__.__kwdefaults__, "grace_s", 0)
    assert "milvus faiss" in run("index", "move", "faiss", "faiss", *where, code=1)
    with pytest.raises(NotFound, match="nowhere"):
        run("index", "move", "faiss", "milvus", "nowhere", *where)
    moved = json.loads(run("index", "move", "faiss", "milvus", "default", *where, "--json"))
    assert moved == {"collection": "default", "index": "milvus", "chunks": 1}
    with pytest.raises(Conflict, match="in Milvus already"):
        run("index", "move", "faiss", "milvus", "default", *where)
    assert says("milvus", data) == (True, "answers, 1 collections are searched there")
    with library.database.read() as session:
        name = session.get_one(PlaceRow, 1).name
    store = MilvusStore(url)
    store.drop(name)
    store.close()
    ok, said = says("milvus", data)
    assert not ok
    assert f"{name} of 1 collections are not there" in said
    assert "1 chunks are searched in faiss" in run("index", "move", "milvus", "faiss", *where)
    library.close()


def test_the_backend_milvus_needs_its_url(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHINAO_INDEX__BACKEND", "milvus")
    with pytest.raises(InvalidInput, match="ZHINAO_INDEX__MILVUS_URL"):
        load()
    monkeypatch.setenv("ZHINAO_INDEX__MILVUS_URL", "http://127.0.0.1:19530")
    assert load().index.backend == "milvus"
    monkeypatch.setenv("ZHINAO_INDEX__MILVUS_PREFIX", "a-b")
    with pytest.raises(InvalidInput, match="MILVUS_PREFIX"):
        load()
