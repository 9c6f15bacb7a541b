from pathlib import Path

import pytest

from app.settings import load
from pipeline.errors import InvalidInput


def test_the_environment_sets_nested_values(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHINAO_CHAT__KIND", "remote")
    monkeypatch.setenv("ZHINAO_CHAT__URL", "http://127.0.0.1:8001")
    monkeypatch.setenv("ZHINAO_CHAT__NAME", "zhinao")
    monkeypatch.setenv("ZHINAO_CHAT__API_KEY", "secret-value")
    settings = load(port=9000, data=None)
    assert (settings.chat.kind, settings.chat.name, settings.port) == ("remote", "zhinao", 9000)
    assert "secret-value" not in repr(settings)


def test_the_database_is_sqlite_in_the_data_folder_unless_one_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    assert load(data=tmp_path).database == f"sqlite:///{tmp_path / 'zhinao.db'}"
    monkeypatch.setenv("DATABASE_URL", "sqlite:////elsewhere/z.db")
    assert load(data=tmp_path).database == "sqlite:////elsewhere/z.db"


def test_the_password_of_a_database_is_not_shown(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://rag:geheim@db/docs")
    assert load().database == "postgresql://rag:geheim@db/docs"
    assert "geheim" not in repr(load())


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ZHINAO_PROT", "1", "ZHINAO_PROT is no setting"),
        ("ZHINAO_PORT", "99999", "ZHINAO_PORT"),
        ("ZHINAO_PROFILE", "magic", "ZHINAO_PROFILE"),
        ("ZHINAO_CHAT__KIND", "remote", "ZHINAO_CHAT__URL"),
        ("ZHINAO_CHAT__KIND", "gguf", "ZHINAO_CHAT__PATH"),
        ("ZHINAO_CHAT__KNID", "none", "KNID"),
        ("ZHINAO_CHAT__KIND", "folder", "ZHINAO_CHAT__FOLDER"),
        ("ZHINAO_CHAT__URL", "http://127.0.0.1:1/v1", "ZHINAO_CHAT__NAME"),
        ("ZHINAO_EMBEDDER__KIND", "folder", "ZHINAO_EMBEDDER__FOLDER"),
        ("ZHINAO_EMBEDDER__URL", "http://127.0.0.1:1/v1", "ZHINAO_EMBEDDER__NAME"),
        ("ZHINAO_EMBEDDER__DEVICE", "gpu", "ZHINAO_EMBEDDER__DEVICE"),
        ("ZHINAO_NEXT_EMBEDDER__KIND", "folder", "ZHINAO_NEXT_EMBEDDER__FOLDER"),
        ("ZHINAO_NEXT_EMBEDDER__DEVICE", "gpu", "ZHINAO_NEXT_EMBEDDER__DEVICE"),
        ("ZHINAO_CHUNKING__AIM", "500", "AIM is below MOST"),
        ("ZHINAO_CHUNKING__LEAST", "290", "LEAST is at most AIM"),
        ("ZHINAO_CHUNKING__MOST", "9000", "ZHINAO_CHUNKING__MOST"),
        ("ZHINAO_RERANKER__KIND", "remote", "ZHINAO_RERANKER__URL"),
        ("ZHINAO_RERANKER__BATCH_TOKENS", "0", "ZHINAO_RERANKER__BATCH_TOKENS"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=says):
        load()


def test_each_model_is_set_by_itself(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHINAO_EMBEDDER__FOLDER", "models/360Zhinao-search")
    monkeypatch.setenv("ZHINAO_EMBEDDER__DEVICE", "cuda:1")
    monkeypatch.setenv("ZHINAO_RERANKER__URL", "http://127.0.0.1:8080/v1")
    monkeypatch.setenv("ZHINAO_RERANKER__NAME", "reranker")
    monkeypatch.setenv("ZHINAO_CHAT__FOLDER", "models/360Zhinao-7B-Chat-4K")
    settings = load()
    kinds = (settings.embedder.kind, settings.reranker.kind, settings.chat.kind)
    assert kinds == ("folder", "remote", "folder")
    assert settings.embedder.device == "cuda:1"
    assert settings.chat.device == "auto"
    monkeypatch.setenv("ZHINAO_CHAT__PATH", "model.gguf")
    with pytest.raises(InvalidInput, match="folder and path are set"):
        load()


def test_a_device_given_beside_the_environment_is_checked_and_added(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZHINAO_EMBEDDER__FOLDER", "models/360Zhinao-search")
    settings = load(embedder={"device": "cuda:1"}, reranker={"device": "cuda:1"})
    assert (settings.embedder.kind, settings.embedder.device) == ("folder", "cuda:1")
    assert settings.reranker.kind == "bundled"
    with pytest.raises(InvalidInput, match="ZHINAO_EMBEDDER__DEVICE"):
        load(embedder={"device": "gpu"})


def test_an_empty_variable_is_no_setting(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHINAO_CHAT__CONTEXT_TOKENS", "")
    assert load().chat.context_tokens is None


def test_without_a_setting_everything_is_bundled() -> None:
    settings = load()
    kinds = (settings.embedder.kind, settings.reranker.kind, settings.chat.kind)
    assert kinds == ("bundled", "bundled", "none")


def test_a_remote_embedder_needs_its_tokenizer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHINAO_EMBEDDER__URL", "http://127.0.0.1:8080/v1")
    monkeypatch.setenv("ZHINAO_EMBEDDER__NAME", "search")
    with pytest.raises(InvalidInput, match="ZHINAO_EMBEDDER__TOKENIZER"):
        load()
    monkeypatch.setenv("ZHINAO_EMBEDDER__TOKENIZER", "tokenizer.json")
    assert load().embedder.kind == "remote"


def test_the_gpu_profile_reaches_the_three_services(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ZHINAO_PROFILE", "gpu")
    monkeypatch.setenv("ZHINAO_CHAT__API_KEY", "secret-value")
    settings = load(data=tmp_path)
    places = (settings.embedder, settings.reranker, settings.chat)
    assert {place.kind for place in places} == {"remote"}
    assert settings.embedder.url == settings.reranker.url == "http://models:8080/v1"
    assert settings.chat.url == "http://vllm-chat:8000/v1"
    assert settings.chat.key == "secret-value"
    assert all(place.name for place in places)
    assert settings.embedder.tokenizer is not None
    assert settings.embedder.tokenizer.is_relative_to(tmp_path)


def test_in_the_gpu_profile_a_model_of_this_process_is_on_a_gpu(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("ZHINAO_PROFILE", "gpu")
    monkeypatch.setenv("ZHINAO_RERANKER__FOLDER", "models/reranker")
    monkeypatch.setenv("ZHINAO_CHAT__KIND", "none")
    settings = load()
    assert (settings.reranker.kind, settings.reranker.device) == ("folder", "cuda")
    assert settings.chat.kind == "none"
    monkeypatch.setenv("ZHINAO_RERANKER__DEVICE", "cuda:1")
    assert load().reranker.device == "cuda:1"


def test_the_tests_own_variables_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHINAO_TEST_STRICT", "1")
    load()
