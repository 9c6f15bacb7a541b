from pathlib import Path

import pytest
from tiny_zhinao import write_search

from app.running import free_port
from app.settings import load
from app.wiring import build_embedders, build_ingester, build_services, build_worker
from indexer.jobs.kinds import Queue, kinds_of
from indexer.jobs.submit import WITHOUT_HANDLER
from models.wordpiece import WordPiece
from pipeline.errors import InvalidInput, ModelUnavailable
from pipeline.types import JobKind


@pytest.mark.parametrize("build", [build_services, build_ingester])
def test_in_the_gpu_profile_a_server_that_does_not_answer_is_an_error_and_no_fallback(
    build, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    tokenizer = tmp_path / "tokenizer.json"
    WordPiece.load(write_search(tmp_path / "search")).tokenizer.save(str(tokenizer))
    address = f"http://127.0.0.1:{free_port()}/v1"
    monkeypatch.setenv("ZHINAO_PROFILE", "gpu")
    monkeypatch.setenv("ZHINAO_EMBEDDER__URL", address)
    monkeypatch.setenv("ZHINAO_EMBEDDER__TOKENIZER", str(tokenizer))
    with pytest.raises(ModelUnavailable, match=address):
        build(load(data=tmp_path / "data"))
    assert not (tmp_path / "data" / "models").exists()


def test_the_layout_engine_without_its_model_is_an_error_and_no_fallback(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHINAO_PARSER__ENGINE", "layout")
    monkeypatch.setenv("ZHINAO_PARSER__LAYOUT_MODEL", str(tmp_path / "yolox.onnx"))
    with pytest.raises(ModelUnavailable, match=r"yolox\.onnx.*leave ZHINAO_PARSER__ENGINE out"):
        build_ingester(load(data=tmp_path / "data"))


def test_the_next_embedder_is_here_beside_the_one_before_and_reads_what_is_cut(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folders = [write_search(tmp_path / str(seed), seed=seed) for seed in (1, 2)]
    monkeypatch.setenv("ZHINAO_EMBEDDER__FOLDER", str(folders[0]))
    for device in ("EMBEDDER", "NEXT_EMBEDDER"):
        monkeypatch.setenv(f"ZHINAO_{device}__DEVICE", "cpu")
    monkeypatch.setenv("ZHINAO_NEXT_EMBEDDER__FOLDER", str(folders[0]))
    made = [build_embedders(load(data=tmp_path), threads=1)]
    monkeypatch.setenv("ZHINAO_NEXT_EMBEDDER__FOLDER", str(folders[1]))
    made.append(build_embedders(load(data=tmp_path), threads=1))
    assert [len(each) for each in made] == [1, 2]
    assert len({each.embedder.fingerprint for loaded in made for each in loaded}) == 2
    assert made[0][0].embedder.fingerprint == made[1][0].embedder.fingerprint
    for loaded in made:
        for each in loaded:
            each.close()
    monkeypatch.setenv("ZHINAO_CHUNKING__MOST", "600")
    with pytest.raises(InvalidInput, match=r"ZHINAO_CHUNKING__MOST is 600.*at most 512"):
        build_embedders(load(data=tmp_path), threads=1)


@pytest.mark.parametrize("queue", Queue)
def test_a_queues_worker_has_a_handler_for_every_kind_that_is_taken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, queue: Queue
) -> None:
    monkeypatch.setenv("ZHINAO_EMBEDDER__FOLDER", str(write_search(tmp_path / "search")))
    monkeypatch.setenv("ZHINAO_EMBEDDER__DEVICE", "cpu")
    worker = build_worker(load(data=tmp_path / "data"), queue)
    worker.core.database.close()
    if queue is Queue.INGEST:
        worker.handlers[JobKind.INGEST]._parser.close()
    assert worker.handlers.keys() == kinds_of(queue) - WITHOUT_HANDLER
