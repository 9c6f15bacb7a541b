"""The command line that becomes vLLM."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

from models.vllm_command import GIB
from models.vllm_serve import arguments, gpu_memory, main, parse_memory
from pipeline.errors import ModelUnavailable, TooLarge

CONFIG = {
    "architectures": ["ZhinaoForCausalLM"],
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "num_key_value_heads": 8,
    "hidden_size": 4096,
    "max_position_embeddings": 365000,
    "torch_dtype": "bfloat16",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """A checkpoint's folder whose weights take 15 GB by their length and nothing on the disk."""
    held = tmp_path / "360Zhinao2-7B-Chat-360K"
    held.mkdir()
    (held / "config.json").write_text(json.dumps(CONFIG), "utf-8")
    with (held / "model.safetensors").open("wb") as file:
        file.truncate(15 * GIB)
    return held


def test_the_smallest_gpu_decides_and_further_words_reach_vllm(folder: Path) -> None:
    words = arguments(["chat", str(folder), "--port", "7", "--seed", "3"], [80 * GIB, 24 * GIB])
    both = arguments(["chat", str(folder)], [24 * GIB, 24 * GIB])
    assert words[words.index("--max-model-len") + 1] == both[both.index("--max-model-len") + 1]
    assert words[words.index("--tensor-parallel-size") + 1] == "2"
    assert words[words.index("--served-model-name") + 1] == "360Zhinao2-7B-Chat-360K"
    assert words[-2:] == ["--seed", "3"]


def test_an_empty_context_is_as_much_as_fits_and_a_number_is_kept(folder: Path) -> None:
    most = arguments(["chat", str(folder), "--context", ""], [80 * GIB])
    less = arguments(["chat", str(folder), "--context", "32768"], [80 * GIB])
    assert most[most.index("--max-model-len") + 1] == "365000"
    assert less[less.index("--max-model-len") + 1] == "32768"
    with pytest.raises(TooLarge, match="fit into the memory"):
        arguments(["chat", str(folder), "--context", "300000"], [40 * GIB])


@pytest.mark.parametrize("text", ["", "\n", "[N/A]\n", "No devices were found\n"])
def test_a_driver_without_a_gpu_is_a_sentence(text: str) -> None:
    with pytest.raises(ModelUnavailable, match="names no GPU's memory"):
        parse_memory(text)


def test_a_machine_without_a_driver_is_told_what_it_needs(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ModelUnavailable, match="needs an NVIDIA GPU"):
        gpu_memory()
    assert main(["chat", str(folder)]) == 1
    assert capsys.readouterr().err.startswith("error: nvidia-smi does not answer")


def test_the_visible_gpus_are_asked_for_and_the_command_is_printed(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, folder: Path, capsys: pytest.CaptureFixture
) -> None:
    driver = tmp_path / "nvidia-smi"
    driver.write_text(
        '#!/bin/sh\nfor word; do [ "$word" = --id=2,3 ] && echo 81559 && echo 81559; done\n'
    )
    driver.chmod(0o755)
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "2,3")
    assert main(["chat", str(folder), "--print"]) == 0
    assert "--max-model-len 365000 --tensor-parallel-size 2" in capsys.readouterr().out


def test_vllm_beside_the_interpreter_is_run_and_its_absence_is_a_sentence(
    tmp_path: Path, folder: Path
) -> None:
    for name, text in (
        ("nvidia-smi", "#!/bin/sh\necho 81559\n"),
        ("vllm", '#!/bin/sh\necho "became vllm $1 $2"\n'),
    ):
        (tmp_path / name).write_text(text)
        (tmp_path / name).chmod(0o755)
    (tmp_path / "python").symlink_to(sys.executable)
    root = Path(__file__).parents[3]
    started = [str(tmp_path / "python"), "-m", "models.vllm_serve", "chat", str(folder)]
    environment = {"PATH": f"{tmp_path}:/usr/bin:/bin", "PYTHONPATH": str(root)}
    done = subprocess.run(started, env=environment, capture_output=True, text=True, check=False)
    assert done.stdout.splitlines()[-1] == f"became vllm serve {folder}"
    (tmp_path / "vllm").unlink()
    done = subprocess.run(started, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr == (
        "error: vllm cannot be started (No such file or directory): install vLLM here\n"
    )
