"""docker-compose.yml and docker/: no engine runs here, so that what can be known without one is held."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import yaml
from compose_spec import PyCompose
from sqlalchemy import make_url

from app.settings import Settings, load
from indexer.sql.database import Database
from models.vllm_command import GIB
from models.vllm_serve import arguments

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docker-compose.yml").read_text("utf-8")
FILES = sorted((ROOT / "docker").glob("*.Dockerfile"))
CHOICES = [None, *sorted((ROOT / "docker").glob("*.env"))]
OURS = ["api", "api-gpu", "models", "pull", "worker", "worker-gpu"]
SERVICES = sorted([*OURS, "postgres", "redis", "vllm-chat"])
_VARIABLE = re.compile(r"\$\{(\w+)(?::-([^}]*))?\}")


def variables(path: Path | None) -> dict[str, str]:
    lines = path.read_text("utf-8").splitlines() if path else []
    return dict(line.split("=", 1) for line in lines if line and not line.startswith("#"))


def filled(given: dict[str, str]) -> dict[str, Any]:
    """The file as Compose sees it with these variables set."""
    text = _VARIABLE.sub(lambda found: given.get(found[1]) or found[2] or "", TEXT)
    read: dict[str, Any] = yaml.safe_load(text)
    return read


def of_profile(name: str) -> dict[str, Any]:
    return {
        key: service
        for key, service in filled({})["services"].items()
        if name in service["profiles"]
    }


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.stem if path else "defaults")
def test_the_file_is_what_the_compose_specification_allows(path: Path | None) -> None:
    read = filled(variables(path))
    plain = {key: value for key, value in read.items() if not key.startswith("x-")}
    # Aliases are written out: the reader knows no merge keys.
    text = yaml.dump(plain, Dumper=_WithoutAliases)
    composed = PyCompose.from_yaml(text)
    composed.validate()
    assert sorted(composed.service_names()) == SERVICES
    assert "$" not in text
    assert not variables(path).keys() - set(re.findall(r"\$\{(\w+)", TEXT))


class _WithoutAliases(yaml.SafeDumper):
    def ignore_aliases(self, data: object) -> bool:
        return True


COMPOSE = (["docker", "compose"], ["docker-compose"])


def _runs(command: list[str]) -> bool:
    found = shutil.which(command[0]) is not None
    return found and subprocess.run(command, capture_output=True).returncode == 0


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_compose_itself_reads_the_file(profile: str) -> None:
    compose = next((words for words in COMPOSE if _runs([*words, "version"])), None)
    if compose is None:
        pytest.skip("neither Docker's compose plugin nor docker-compose is installed")
    done = subprocess.run(
        [*compose, "--profile", profile, "config", "--quiet"], cwd=ROOT, capture_output=True
    )
    assert done.returncode == 0, done.stderr


@pytest.mark.parametrize("profile", ["cpu", "gpu"])
def test_a_profile_starts_all_that_its_services_wait_for(profile: str) -> None:
    services = of_profile(profile)
    assert services
    for service in services.values():
        for name, condition in service.get("depends_on", {}).items():
            assert name in services
            if condition["condition"] == "service_healthy":
                assert "healthcheck" in services[name]


def test_every_service_that_stays_up_is_looked_after_and_has_few_rights() -> None:
    for name, service in filled({})["services"].items():
        assert service["cap_drop"] == ["ALL"]
        assert service["security_opt"] == ["no-new-privileges:true"]
        assert re.search(r":v?\d+\.\d+", service["image"]), "a version is named"
        if name != "pull":
            assert service["restart"] == "unless-stopped"
            assert service["healthcheck"]["start_period" if name != "redis" else "interval"]


def test_the_page_is_published_on_this_machine_alone_and_nothing_else_is() -> None:
    published = {
        name: service["ports"]
        for name, service in filled({})["services"].items()
        if "ports" in service
    }
    assert published == {"api": ["127.0.0.1:8000:8000"], "api-gpu": ["127.0.0.1:8000:8000"]}


def test_api_and_workers_share_one_database_that_no_network_reaches(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services = filled({})["services"]
    postgres = services["postgres"]
    socket = "postgres-socket:/var/run/postgresql"
    assert socket in postgres["volumes"]
    assert "listen_addresses=127.0.0.1" in postgres["command"]
    assert set(postgres["environment"]) >= {"POSTGRES_USER", "POSTGRES_DB"}
    for name in ("api", "worker", "api-gpu", "worker-gpu"):
        assert socket in services[name]["volumes"]
        assert services[name]["depends_on"]["postgres"] == {"condition": "service_healthy"}
        url = make_url(settings_of(services[name], monkeypatch, tmp_path).database)
        assert (url.username, url.database, url.host, url.password) == (
            postgres["environment"]["POSTGRES_USER"],
            postgres["environment"]["POSTGRES_DB"],
            None,
            None,
        )
        assert url.query == {"host": socket.partition(":")[2]}
        Database(str(url)).close()
    others = {name for name in services if socket in services[name].get("volumes", ())}
    assert others == {"postgres", "api", "worker", "api-gpu", "worker-gpu"}


def test_another_database_can_be_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    services = filled({"DATABASE_URL": "sqlite:////elsewhere/zhinao.db"})["services"]
    for name in ("api", "worker-gpu"):
        settings = settings_of(services[name], monkeypatch, tmp_path)
        assert settings.database == "sqlite:////elsewhere/zhinao.db"


def test_only_the_models_reserve_a_gpu() -> None:
    services = filled({})["services"]
    assert [name for name in services if "deploy" in services[name]] == ["models", "vllm-chat"]
    assert not any("deploy" in service for service in of_profile("cpu").values())
    assert not re.search(
        r"^(torch|transformers|vllm)\b",
        (ROOT / "requirements.txt").read_text("utf-8"),
        re.MULTILINE,
    )


def settings_of(
    service: dict[str, Any], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> Settings:
    for name in [*os.environ]:
        if name.startswith("ZHINAO_") or name in ("REDIS_URL", "DATABASE_URL"):
            monkeypatch.delenv(name)
    for name, value in service["environment"].items():
        if value is not None:
            monkeypatch.setenv(name, str(value).replace("/data", str(tmp_path)))
    return load()


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_sets_is_a_setting(
    name: str, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    settings = settings_of(filled({})["services"][name], monkeypatch, tmp_path)
    assert settings.data == tmp_path
    assert settings.profile == ("embedded" if name in ("api", "worker", "pull") else "gpu")


def test_the_application_reaches_the_models_by_the_names_and_ports_they_have(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    services = filled({"CHAT_MODEL": "some-model", "CHAT_CONTEXT": "32768"})["services"]
    for name in ("api-gpu", "worker-gpu"):
        settings = settings_of(services[name], monkeypatch, tmp_path)
        for role in (settings.embedder, settings.reranker, settings.chat):
            assert role.kind == "remote"
            found = re.fullmatch(r"http://([\w-]+):(\d+)/v1", str(role.url))
            assert found
            command = services[found[1]]["command"]
            assert command[command.index("--port") + 1] == found[2]
            assert command[command.index("--host") + 1] == "0.0.0.0"
        command = services["vllm-chat"]["command"]
        assert settings.chat.name == command[command.index("--name") + 1] == "some-model"
        assert settings.chat.context_tokens == int(command[command.index("--context") + 1])
        assert settings.chat.tokenizer == tmp_path / "models/some-model/tokenizer.json"
    held = settings_of(services["models"], monkeypatch, tmp_path)
    assert held.embedder.folder is not None
    assert held.reranker.folder is not None
    assert (held.embedder.folder.name, held.reranker.folder.name) == (
        settings.embedder.name,
        settings.reranker.name,
    )


@pytest.mark.parametrize("name", OURS)
def test_what_a_service_runs_is_a_command_of_ours(name: str) -> None:
    import typer

    from app.cli import app

    service = filled({})["services"][name]
    words = [*service.get("entrypoint", []), *service.get("command", ["some-model"])]
    assert words.pop(0) == "zhinao"
    group = typer.main.get_command(app)
    context = group.make_context("zhinao", [words[0]], resilient_parsing=True)
    while hasattr(group, "commands"):
        group = group.commands[words.pop(0)]
    # Parsing refuses an option that the command does not have; nothing runs.
    group.make_context(group.name, words, parent=context)


@pytest.mark.parametrize("path", CHOICES, ids=lambda path: path.stem if path else "defaults")
def test_vllm_is_told_a_context_that_the_gpus_hold(path: Path | None, tmp_path: Path) -> None:
    import json

    given = variables(path)
    service = filled(given)["services"]["vllm-chat"]
    ids = str(service["environment"]["CUDA_VISIBLE_DEVICES"]).split(",")
    folder = tmp_path / "models" / "360Zhinao-7B-Chat-360K"
    folder.mkdir(parents=True)
    config = {
        "architectures": ["ZhinaoForCausalLM"],
        "num_hidden_layers": 32,
        "num_attention_heads": 32,
        "hidden_size": 4096,
        "max_position_embeddings": 360000,
    }
    (folder / "config.json").write_text(json.dumps(config), "utf-8")
    with (folder / "model.safetensors").open("wb") as file:
        file.truncate(15_549_603_840)
    words = [word.replace("/data", str(tmp_path)) for word in service["command"]]
    found = arguments(words, [80 * GIB] * len(ids))
    assert found[found.index("--tensor-parallel-size") + 1] == str(len(ids))
    length = int(found[found.index("--max-model-len") + 1])
    share = float(service["command"][-1])
    assert 80_000 < length < 360_000 + 1
    assert length * 512 * 1024 + 15_549_603_840 < share * 80 * GIB * len(ids)
    # Where the other models are on one of the chat model's GPUs, a fifth of it is theirs.
    other = str(filled(given)["services"]["models"]["environment"]["CUDA_VISIBLE_DEVICES"])
    assert share <= (0.8 if other in ids else 0.95)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_an_image_is_linted_pinned_and_not_roots(path: Path) -> None:
    linter = Path(sys.executable).parent / "hadolint"
    done = subprocess.run(
        [linter, "--no-color", "--config", ROOT / "docker" / "hadolint.yaml", path],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    text = path.read_text("utf-8")
    for image in re.findall(r"^FROM (\S+)", text, re.MULTILINE):
        assert re.search(r":v?\d+\.\d+\.\d+", image)
    assert re.findall(r"^USER (\S+)", text, re.MULTILINE)[-1:] == ["10001"]
    assert "useradd --uid 10001" in text


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
def test_what_an_image_copies_is_here_and_not_ignored(path: Path) -> None:
    ignored = (ROOT / ".dockerignore").read_text("utf-8").splitlines()
    assert ignored.count("*") == 1
    copies = re.findall(r"^COPY (?!--from)(.+)", path.read_text("utf-8"), re.MULTILINE)
    for source in [word for line in copies for word in line.split()[:-1]]:
        assert (ROOT / source).exists()
        assert f"!{source}" in ignored
    built = [
        service["build"]["dockerfile"]
        for service in filled({})["services"].values()
        if "build" in service
    ]
    assert path.relative_to(ROOT).as_posix() in built
