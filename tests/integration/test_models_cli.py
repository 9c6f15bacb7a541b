"""`zhinao models` from list to verify, against a hub on loopback."""

import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from scripted_hub import BIG, ScriptedHub, running_hub
from tiny_zhinao import write_chat, write_reranker
from typer.testing import CliRunner, Result

from app.cli import app
from models.checkpoint.pull import LICENCE
from models.zhinao.known import known_models
from pipeline.errors import RagError

CHAT = "360Zhinao-7B-Chat-4K"


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedHub]:
    with running_hub(monkeypatch) as server:
        yield server


def serve(hub: ScriptedHub, folder: Path, name: str) -> None:
    hub.name = repository(name)
    hub.files = {
        str(path.relative_to(folder)): path.read_bytes()
        for path in folder.rglob("*")
        if path.is_file()
    }


def repository(name: str) -> str:
    return next(known.repositories["huggingface"] for known in known_models() if known.name == name)


def models(data: Path, *arguments: str) -> Any:
    result = run(data, *arguments)
    assert result.exit_code == 0, result.output
    return json.loads(result.stdout)


def run(data: Path, *arguments: str) -> Result:
    command = ["models", *arguments, "--data", str(data), "--json"]
    result = CliRunner().invoke(app, command)
    if isinstance(result.exception, RagError):
        raise result.exception
    return result


def row(data: Path, name: str) -> dict[str, Any]:
    return next(one for one in models(data, "list") if one["name"] == name)


def test_a_model_goes_from_the_hub_to_a_verified_folder(hub: ScriptedHub, tmp_path: Path) -> None:
    serve(hub, write_chat(tmp_path / "published"), CHAT)
    data = tmp_path / "data"
    before = row(data, CHAT)
    assert (before["pulled"], before["converted"], before["verified"]) == (False, False, False)
    pull = ("pull", CHAT, "--endpoint", hub.endpoint, "--accept-licence")
    (fetched,) = models(data, *pull)
    assert (Path(fetched["folder"]) / "config.json").is_file()
    assert (Path(fetched["folder"]) / LICENCE).is_file()
    assert models(data, "convert", CHAT)["kind"] == "chat"
    report = models(data, "verify", CHAT)
    assert report["logits"] <= 1e-4
    after = row(data, CHAT)
    assert (after["pulled"], after["converted"], after["verified"]) == (True, True, True)
    assert (data / "models" / CHAT / LICENCE).is_file()
    config = data / "models" / CHAT / "config.json"
    config.write_text(config.read_text() + " ")
    with pytest.raises(RagError, match=r"config\.json"):
        run(data, "verify", CHAT)


def test_a_folder_of_one_s_own_is_converted_and_a_random_reranker_stays_undecided(
    tmp_path: Path,
) -> None:
    source = write_reranker(tmp_path / "mine")
    out = tmp_path / "out"
    made = models(tmp_path / "data", "convert", str(source), "--to", str(out))
    assert made == {"model": "mine", "folder": str(out), "kind": "rerank"}
    report = models(tmp_path / "data", "verify", str(source), "--converted", str(out))
    assert report["score_position"] is None
    assert set(report["auc"]) == {"before_placeholder", "placeholder", "last", "mean"}
    assert "nothing was recorded" in report["says"]


def test_a_licence_that_nobody_accepted_stops_the_pull(hub: ScriptedHub, tmp_path: Path) -> None:
    with pytest.raises(RagError, match="--accept-licence"):
        run(tmp_path / "data", "pull", CHAT, "--endpoint", hub.endpoint)
    assert hub.asked == []


@pytest.mark.parametrize("command", ["pull", "convert", "verify"])
def test_an_unknown_name_is_a_sentence(tmp_path: Path, command: str) -> None:
    with pytest.raises(RagError, match="zhinao models list"):
        run(tmp_path / "data", command, "360Zhinao-9B")


def test_every_model_of_the_family_is_a_row(tmp_path: Path) -> None:
    names = {one["name"] for one in models(tmp_path / "data", "list")}
    assert len(names) == len(known_models())
    v1 = "360Zhinao-7B"
    assert names >= {
        f"{v1}-Base", f"{v1}-Chat-4K", f"{v1}-Chat-32K", f"{v1}-Chat-360K",
        f"{v1}-Chat-4K-Int4", f"{v1}-Chat-32K-Int4", f"{v1}-Chat-360K-Int4",
        "360Zhinao-search", "360Zhinao-1.8B-Reranking", "llama3-8B-360Zhinao-360k-Instruct",
    }  # fmt: skip
    table = CliRunner().invoke(app, ["models", "list", "--data", str(tmp_path)])
    assert "360Zhinao-search" in table.output


@pytest.mark.slow
def test_ctrl_c_ends_a_pull_cleanly_and_the_next_one_goes_on(
    hub: ScriptedHub, tmp_path: Path
) -> None:
    hub.name, hub.holds = repository(CHAT), "model.safetensors"
    command = [
        sys.executable, "-m", "app", "models", "pull", CHAT, "--accept-licence",
        "--endpoint", hub.endpoint, "--data", str(tmp_path),
    ]  # fmt: skip
    process = subprocess.Popen(
        command,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A test run in the background of a shell ignores Ctrl-C, and its children would too.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.default_int_handler),
    )
    folder = tmp_path / "models" / "original" / CHAT
    try:
        assert hub.half_sent.wait(60)
        while sum(part.stat().st_size for part in folder.glob(".model*.part")) < len(BIG) // 2:
            assert process.poll() is None
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=30)
    finally:
        process.kill()
        process.wait()
    assert process.returncode == 130
    assert "Traceback" not in said
    assert not (folder / "model.safetensors").exists()
    hub.holds = None
    hub.asked.clear()
    models(tmp_path, "pull", CHAT, "--endpoint", hub.endpoint)
    assert hub.asked == [("model.safetensors", f"bytes={len(BIG) // 2}-")]
    assert (folder / "model.safetensors").read_bytes() == BIG
