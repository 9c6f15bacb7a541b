"""Models are fetched from a hub that plays a script on loopback."""

import json
import shutil
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from pathlib import Path

import pytest
from scripted_hub import BIG, COMMIT, FILES, NAME, ScriptedHub, running_hub

from models.checkpoint.errors import HubRefused, LicenceNotAccepted, NotEnoughSpace, WrongChecksum
from models.checkpoint.hub_client import HubClient, Wanted
from models.checkpoint.hubs import Hub, RemoteFile, chosen, default_endpoint, read_listing
from models.checkpoint.licence import APACHE, ZHINAO_V1
from models.checkpoint.pull import DOWNLOAD, LICENCE, is_complete, pull, revision_of
from pipeline.errors import InvalidInput, ModelUnavailable, NotFound


@pytest.fixture
def hub(monkeypatch: pytest.MonkeyPatch) -> Iterator[ScriptedHub]:
    with running_hub(monkeypatch) as server:
        yield server


def fetch(
    hub: ScriptedHub,
    folder: Path,
    *,
    which: Hub = Hub.HUGGING_FACE,
    name: str = NAME,
    token: str | None = None,
    licence: object = APACHE,
    accepted: bool = False,
    free: Callable[[Path], int] = lambda _: 10**12,
    step: Callable[[str, int, int], None] = lambda *_: None,
    retries: int = 2,
) -> Path:
    client = HubClient(hub.endpoint, token=token, retries=retries, sleep=lambda _: None)
    wanted = Wanted(which, hub.endpoint, name, "main" if which is Hub.HUGGING_FACE else "master")
    try:
        return pull(
            client,
            wanted,
            folder,
            licence=licence,  # type: ignore[arg-type]
            accepted=accepted,
            free=free,
            step=step,
            now=lambda: datetime(2026, 11, 24, tzinfo=UTC),
        )
    finally:
        client.close()


def kept(folder: Path) -> set[str]:
    return {str(path.relative_to(folder)) for path in folder.rglob("*") if path.is_file()}


@pytest.mark.parametrize("which", list(Hub))
def test_the_files_of_a_conversion_arrive_and_no_program_code(
    hub: ScriptedHub, tmp_path: Path, which: Hub
) -> None:
    seen: dict[str, int] = {}
    fetch(hub, tmp_path, which=which, step=lambda file, done, _: seen.update({file: done}))
    wanted = {"config.json", "vocab/360.tiktoken", "model.safetensors", "LICENSE.txt"}
    assert kept(tmp_path) == wanted | {DOWNLOAD}
    assert all((tmp_path / name).read_bytes() == FILES[name] for name in wanted)
    assert seen == {name: len(FILES[name]) for name in wanted}
    assert is_complete(tmp_path)
    assert revision_of(tmp_path) == (COMMIT if which is Hub.HUGGING_FACE else "master")


@pytest.mark.parametrize("which", list(Hub))
def test_a_cut_goes_on_where_it_ended(hub: ScriptedHub, tmp_path: Path, which: Hub) -> None:
    hub.cuts = [300_000, 200_000]
    fetch(hub, tmp_path, which=which)
    starts = [at for path, at in hub.asked if path == "model.safetensors"]
    assert starts == [None, "bytes=300000-", "bytes=500000-"]
    assert (tmp_path / "model.safetensors").read_bytes() == BIG


def test_a_run_that_broke_off_is_taken_up_by_the_next_one(hub: ScriptedHub, tmp_path: Path) -> None:
    hub.cuts = [300_000, 0, 0]
    with pytest.raises(ModelUnavailable, match="kept"):
        fetch(hub, tmp_path, retries=1)
    assert not is_complete(tmp_path)
    hub.asked.clear()
    fetch(hub, tmp_path)
    assert hub.asked == [("model.safetensors", "bytes=300000-")]
    assert (tmp_path / "model.safetensors").read_bytes() == BIG


def test_a_stopped_run_leaves_its_part_and_no_finished_folder(
    hub: ScriptedHub, tmp_path: Path
) -> None:
    def stop(file: str, done: int, size: int) -> None:
        if file == "model.safetensors":
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        fetch(hub, tmp_path, step=stop)
    assert not is_complete(tmp_path)
    assert not (tmp_path / "model.safetensors").exists()
    assert any(path.name.endswith(".part") for path in tmp_path.iterdir())
    fetch(hub, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == BIG


def test_a_server_without_ranges_starts_again(hub: ScriptedHub, tmp_path: Path) -> None:
    hub.ranges, hub.cuts = False, [300_000]
    fetch(hub, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == BIG


def test_a_complete_folder_costs_the_listing_only(hub: ScriptedHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    hub.asked.clear()
    fetch(hub, tmp_path)
    assert hub.asked == []


def test_a_changed_file_is_fetched_again(hub: ScriptedHub, tmp_path: Path) -> None:
    fetch(hub, tmp_path)
    (tmp_path / "model.safetensors").write_bytes(BIG[:-1] + b"x")
    fetch(hub, tmp_path)
    assert (tmp_path / "model.safetensors").read_bytes() == BIG


@pytest.mark.parametrize("path", ["config.json", "model.safetensors"])
def test_bytes_with_another_checksum_are_thrown_away(
    hub: ScriptedHub, tmp_path: Path, path: str
) -> None:
    hub.lies[path] = FILES[path][:-1] + b"?"
    with pytest.raises(WrongChecksum, match=path):
        fetch(hub, tmp_path)
    assert not (tmp_path / path).exists()
    assert not is_complete(tmp_path)


def test_more_bytes_than_listed_are_refused(hub: ScriptedHub, tmp_path: Path) -> None:
    hub.lies["model.safetensors"] = BIG + b"more"
    with pytest.raises(WrongChecksum, match="more of model"):
        fetch(hub, tmp_path)


def test_a_full_disk_is_seen_before_anything_is_fetched(hub: ScriptedHub, tmp_path: Path) -> None:
    with pytest.raises(NotEnoughSpace, match="ZHINAO_DATA"):
        fetch(hub, tmp_path, free=lambda _: len(BIG))
    assert hub.asked == []


@pytest.mark.parametrize("which", list(Hub))
def test_an_unknown_model_is_named(hub: ScriptedHub, tmp_path: Path, which: Hub) -> None:
    with pytest.raises(NotFound, match="qihoo360/nothing"):
        fetch(hub, tmp_path, which=which, name="qihoo360/nothing")


def test_a_refusal_asks_for_a_token(hub: ScriptedHub, tmp_path: Path) -> None:
    hub.token = "secret"
    with pytest.raises(HubRefused, match="HF_TOKEN"):
        fetch(hub, tmp_path)
    fetch(hub, tmp_path, token="secret")
    assert is_complete(tmp_path)


@pytest.mark.parametrize("status", [404, 500])
def test_a_file_that_does_not_come_is_a_sentence(
    hub: ScriptedHub, tmp_path: Path, status: int
) -> None:
    hub.status["model.safetensors"] = status
    with pytest.raises((NotFound, ModelUnavailable), match="endpoint"):
        fetch(hub, tmp_path)


@pytest.mark.parametrize(
    "garbage",
    [b"<html>log in</html>", b"[]", b'{"sha": "x"}', b'{"Code": 200, "Data": 7}', b"\xff"],
)
@pytest.mark.parametrize("which", list(Hub))
def test_garbage_is_no_listing(
    hub: ScriptedHub, tmp_path: Path, which: Hub, garbage: bytes
) -> None:
    hub.listing = garbage
    with pytest.raises((ModelUnavailable, NotFound)):
        fetch(hub, tmp_path, which=which)
    assert kept(tmp_path) == set()


def test_a_hub_that_is_not_there_is_named(tmp_path: Path) -> None:
    hub = ScriptedHub()
    hub.close()
    with pytest.raises(ModelUnavailable, match=hub.endpoint):
        fetch(hub, tmp_path)


def test_a_licence_is_accepted_before_anything_is_fetched_and_recorded(
    hub: ScriptedHub, tmp_path: Path
) -> None:
    with pytest.raises(LicenceNotAccepted, match="--accept-licence"):
        fetch(hub, tmp_path, licence=ZHINAO_V1)
    assert hub.asked == []
    fetch(hub, tmp_path, licence=ZHINAO_V1, accepted=True)
    note = json.loads((tmp_path / LICENCE).read_text("utf-8"))
    assert note["licence"] == ZHINAO_V1.title
    assert note["accepted"] == "2026-11-24T00:00:00+00:00"
    assert note["texts"] == ["LICENSE.txt"]
    shutil.rmtree(tmp_path / "vocab")
    fetch(hub, tmp_path, licence=ZHINAO_V1)
    assert is_complete(tmp_path)


def test_a_path_that_leaves_the_folder_is_refused() -> None:
    body = {
        "sha": COMMIT,
        "siblings": [{"rfilename": "../config.json", "size": 1, "blobId": "a" * 40}],
    }
    with pytest.raises(ModelUnavailable, match="leaves the folder"):
        read_listing(Hub.HUGGING_FACE, body, NAME, "main")


def test_names_and_endpoints_are_checked(hub: ScriptedHub, tmp_path: Path) -> None:
    with pytest.raises(InvalidInput, match="owner/model"):
        fetch(hub, tmp_path, name="../../etc")
    with pytest.raises(InvalidInput, match="endpoint"):
        HubClient("ftp://somewhere")


def test_one_format_of_weights_is_chosen_small_files_first() -> None:
    files = [RemoteFile(name, len(data), "a" * 64, None) for name, data in FILES.items()]
    names = [file.path for file in chosen(files)]
    assert names == ["vocab/360.tiktoken", "LICENSE.txt", "config.json", "model.safetensors"]
    bins = [file for file in files if not file.path.endswith(".safetensors")]
    assert "pytorch_model.bin" in {file.path for file in chosen(bins)}


def test_training_leftovers_are_not_fetched() -> None:
    names = ["rng_state_0.pth", "zero_to_fp32.py", "latest", "global_step1/x.pt", "trainer.json"]
    assert chosen([RemoteFile(name, 1, "a" * 64, None) for name in names]) == []


def test_an_unencrypted_redirect_of_an_encrypted_hub_is_not_followed() -> None:
    client = HubClient("https://hub.invalid")
    with pytest.raises(ModelUnavailable, match="without encryption"):
        client._client.get("http://127.0.0.1:9/x")
    client.close()


def test_both_hubs_have_an_address() -> None:
    assert all(default_endpoint(hub).startswith("https://") for hub in Hub)
