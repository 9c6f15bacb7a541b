"""`zhinao doctor --deep`: what it prints of whole, damaged and mended stores."""

import json
import shutil
from pathlib import Path

import pytest
from library import Library
from typer.testing import CliRunner

from app.cli import app
from app.deep import examine_deep
from app.settings import Settings


@pytest.fixture
def settings(tmp_path: Path) -> Settings:
    return Settings(data=tmp_path)


@pytest.fixture
def library(settings: Settings) -> Library:
    made = Library.open(settings.data)
    made.add("a.txt", "The walrus sleeps on the ice.")
    made.close()
    return made


def test_an_empty_folder_is_well_and_stays_empty(settings: Settings) -> None:
    (check,) = examine_deep(settings)
    assert check.ok
    assert list(settings.data.iterdir()) == []


def test_whole_stores_are_one_line(settings: Settings, library: Library) -> None:
    (check,) = examine_deep(settings)
    assert (check.part, check.ok) == ("stores", True)


def test_damage_is_told_with_the_command_that_mends_it_and_then_mended(
    settings: Settings, library: Library
) -> None:
    for words in settings.data.rglob("words"):
        shutil.rmtree(words)
    (broken,) = examine_deep(settings)
    assert (broken.part, broken.ok) == ("words of default", False)
    assert broken.says.endswith("zhinao doctor --deep --mend mends it")
    mended, well = examine_deep(settings, mend=True)
    assert "the words of 1 passages were written again" in mended.says
    assert mended.ok
    assert well.part == "stores"
    done, _ = examine_deep(settings, compacted=True)
    assert (done.part, done.ok) == ("compaction", True)


def test_the_command_prints_json_and_refuses_to_mend_without_looking(
    settings: Settings, library: Library, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("app.doctor.examine", lambda *_: [])
    told = CliRunner().invoke(app, ["doctor", "--deep", "--data", str(settings.data), "--json"])
    assert [row["part"] for row in json.loads(told.stdout)] == ["stores"]
    refused = CliRunner().invoke(app, ["doctor", "--mend"])
    assert refused.exit_code == 1
    assert "go with --deep" in refused.output
