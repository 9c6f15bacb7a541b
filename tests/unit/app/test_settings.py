from pathlib import Path

import pytest

from app.settings import load
from indexer.database import Database
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


def test_a_database_that_is_not_supported_yet_is_said() -> None:
    with pytest.raises(InvalidInput, match="SQLite"):
        Database("postgresql://u:pw@127.0.0.1/z")


@pytest.mark.parametrize(
    ("name", "value", "says"),
    [
        ("ZHINAO_PROT", "1", "ZHINAO_PROT is no setting"),
        ("ZHINAO_PORT", "99999", "ZHINAO_PORT"),
        ("ZHINAO_PROFILE", "magic", "ZHINAO_PROFILE"),
        ("ZHINAO_CHAT__KIND", "remote", "ZHINAO_CHAT__URL"),
        ("ZHINAO_CHAT__KIND", "gguf", "ZHINAO_CHAT__PATH"),
        ("ZHINAO_CHAT__KNID", "none", "KNID"),
    ],
)
def test_a_wrong_setting_is_named(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, says: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidInput, match=says):
        load()


def test_the_tests_own_variables_are_let_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ZHINAO_TEST_STRICT", "1")
    load()
