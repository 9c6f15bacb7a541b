"""The vector index is what the settings say, and never less than they ask for."""

import pytest

from app.settings import IndexSettings, load
from app.wiring_index import build_placement, build_rule
from indexer.segments.rows import load_faiss
from indexer.segments.vectors import on_cpu
from pipeline.errors import InvalidInput, Unavailable


@pytest.fixture
def no_gpu() -> None:
    faiss = load_faiss()
    if hasattr(faiss, "StandardGpuResources") and faiss.get_num_gpus():
        pytest.skip("there is a GPU, though not in ../shared")


def test_segments_are_written_with_the_recall_that_is_set(monkeypatch: pytest.MonkeyPatch) -> None:
    assert build_rule(load().index).recall == 0.97
    monkeypatch.setenv("ZHINAO_INDEX__RECALL", "0.9")
    assert build_rule(load().index).recall == 0.9


@pytest.mark.parametrize(
    ("name", "value"), [("RECALL", "0.4"), ("RECALL", "1.1"), ("DEVICE", "gpu"), ("FALLBACK", "x")]
)
def test_an_index_that_cannot_be_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str
) -> None:
    monkeypatch.setenv(f"ZHINAO_INDEX__{name}", value)
    with pytest.raises(InvalidInput, match=f"ZHINAO_INDEX__{name}"):
        load()


def test_the_cpu_is_the_default() -> None:
    assert build_placement(IndexSettings()) == (on_cpu, None)


@pytest.mark.usefixtures("no_gpu")
def test_without_a_gpu_only_a_setting_lets_the_cpu_search_instead(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with pytest.raises(Unavailable, match="ZHINAO_INDEX__FALLBACK=true"):
        build_placement(IndexSettings(device="cuda"))
    assert build_placement(IndexSettings(device="cuda", fallback=True)) == (on_cpu, None)
    assert "searching on the CPU" in caplog.text
