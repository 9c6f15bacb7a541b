"""GPTQ tensors against an oracle that packs and dequantises number by number."""

import json
import re
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.torch import load_file, save_file
from tiny_gptq import AUTOGPTQ, OPTIMUM, layer, pack, write_int4

from models.checkpoint.convert import convert
from models.checkpoint.errors import DamagedCheckpoint, UnknownCheckpoint
from models.checkpoint.gptq import Quantisation, dequantise, quantisation_of, unpack_rows
from models.checkpoint.manifest import read_manifest, record, write_manifest
from models.checkpoint.plan import Geometry, Part, Piece
from models.checkpoint.splitting import part_of
from models.checkpoint.verify import verify
from models.checkpoint.writer import Entry


def heads(part: Part, kv_heads: int, group: int, head_dim: int) -> list[int]:
    """The rows of the fused matrix that are this part: per KV head, queries, then key, then value."""
    rows: list[int] = []
    for kv in range(kv_heads):
        start = kv * (group + 2) * head_dim
        first, count = {Part.Q: (0, group), Part.K: (group, 1), Part.V: (group + 1, 1)}[part]
        rows += range(start + first * head_dim, start + (first + count) * head_dim)
    return rows


@pytest.mark.parametrize("bits", [4, 8])
@pytest.mark.parametrize("group", [32, -1])
@pytest.mark.parametrize("shuffled", [False, True])
def test_dequantised_weights_are_those_of_the_oracle(bits: int, group: int, shuffled: bool) -> None:
    one = layer(24, 64, bits=bits, group=group, shuffled=shuffled)
    assert np.array_equal(dequantise(**one.tensors, bits=bits).numpy(), one.weight)


@settings(deadline=None, max_examples=25)
@given(
    kv_heads=st.integers(1, 3),
    group=st.integers(1, 4),
    words=st.integers(1, 2),
    bits=st.sampled_from([4, 8]),
    shuffled=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_split_int4_is_the_split_of_the_dequantised_matrix(
    kv_heads: int, group: int, words: int, bits: int, shuffled: bool, seed: int
) -> None:
    head_dim = 8 * words
    out = kv_heads * (group + 2) * head_dim
    one = layer(out, 32, bits=bits, group=16, shuffled=shuffled, seed=seed)
    geometry = Geometry(32, 1, kv_heads * group, kv_heads, head_dim, 32, 32, tied=False)
    quantisation = Quantisation(bits, 16, act_order=shuffled, fields={})
    for part in (Part.Q, Part.K, Part.V):
        rows = heads(part, kv_heads, group, head_dim)
        shapes = quantisation.shapes(len(rows), 32)
        split = {}
        for name, tensor in one.tensors.items():
            which = Part.WHOLE if name == "g_idx" else part
            piece = Piece(Entry("t", "I32", ()), f"qkv_proj.{name}", "f", which)
            split[name] = part_of(tensor, piece, geometry, quantisation)
            assert tuple(split[name].shape) == shapes[name]
        assert np.array_equal(dequantise(**split, bits=bits).numpy(), one.weight[rows])


@settings(deadline=None, max_examples=30)
@given(st.integers(1, 3), st.integers(1, 5), st.sampled_from([4, 8]), st.integers(0, 1000))
def test_unpacking_undoes_packing(words: int, columns: int, bits: int, seed: int) -> None:
    codes = np.random.default_rng(seed).integers(0, 2**bits, (words * 32 // bits, columns))
    unpacked = unpack_rows(torch.from_numpy(pack(codes, bits)), bits)
    assert np.array_equal(unpacked.numpy(), codes)


@pytest.mark.parametrize(
    ("config", "file"),
    [
        ({}, AUTOGPTQ),
        ({"quantization_config": OPTIMUM}, None),
        ({"quantization_config": OPTIMUM}, AUTOGPTQ),
        ({"quantization_config": {**AUTOGPTQ, "checkpoint_format": "gptq"}}, None),
    ],
)
def test_both_dialects_are_read(config: dict[str, object], file: dict[str, object] | None) -> None:
    found = quantisation_of(config, file, "tiny")
    assert found is not None
    assert (found.bits, found.group_size, found.act_order) == (4, 128, False)
    assert found.fields["quant_method"] == "gptq"
    assert "exllama_config" not in found.fields


def test_no_dialect_is_no_quantisation() -> None:
    assert quantisation_of({}, None, "tiny") is None


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"bits": 3}, "3 bits"),
        ({"bits": None}, "None bits"),
        ({"quant_method": "awq"}, "awq"),
        ({"checkpoint_format": "gptq_v2"}, "gptq_v2"),
        ({"group_size": 0}, "group size 0"),
        ({"group_size": "128"}, "group size"),
    ],
)
def test_what_is_not_known_is_refused(change: dict[str, object], says: str) -> None:
    with pytest.raises(UnknownCheckpoint, match=re.escape(says)):
        quantisation_of({"quantization_config": {**OPTIMUM, **change}}, None, "tiny")


def test_dialects_that_disagree_are_refused() -> None:
    with pytest.raises(UnknownCheckpoint, match="disagree"):
        quantisation_of({"quantization_config": OPTIMUM}, {**AUTOGPTQ, "group_size": 64}, "tiny")


def test_sizes_that_cannot_be_packed_are_refused() -> None:
    with pytest.raises(UnknownCheckpoint, match="packed"):
        Quantisation(4, 128, act_order=False, fields={}).shapes(12, 128)


def run(source: Path, target: Path) -> None:
    convert(source, target, name="tiny", free=lambda _: 10**12)


@pytest.mark.parametrize("dialect", ["autogptq", "optimum"])
def test_an_int4_checkpoint_becomes_a_plain_one_that_means_the_same(
    tmp_path: Path, dialect: str
) -> None:
    meant = write_int4(tmp_path / "a", dialect=dialect)
    run(tmp_path / "a", tmp_path / "b")
    held = load_file(tmp_path / "b" / "model.safetensors")
    assert not any("qkv_proj" in name or name.endswith("o_proj.bias") for name in held)
    parts = {"q_proj": Part.Q, "k_proj": Part.K, "v_proj": Part.V}
    for number in range(2):
        at = f"model.layers.{number}.self_attn"
        for name, part in parts.items():
            four = {
                kind: held[f"{at}.{name}.{kind}"]
                for kind in ("qweight", "qzeros", "scales", "g_idx")
            }
            rows = heads(part, 2, 2, 32)
            weight = dequantise(**four, bits=4).numpy()
            assert np.array_equal(weight, meant[f"{at}.qkv_proj"][rows])
    config = json.loads((tmp_path / "b" / "config.json").read_text())
    assert config["quantization_config"]["quant_method"] == "gptq"
    assert config["quantization_config"]["group_size"] == 128
    assert config["torch_dtype"] == "float16"
    report = verify(tmp_path / "a", tmp_path / "b")
    assert report.dequantised == 6
    assert report.logits is None


def test_a_bias_that_qwen2_has_not_is_refused_unless_it_is_zero(tmp_path: Path) -> None:
    write_int4(tmp_path / "a", dialect="autogptq")
    path = tmp_path / "a" / "gptq_model-4bit-128g.safetensors"
    tensors = load_file(path)
    tensors["model.layers.1.mlp.up_proj.bias"][3] = 0.5
    save_file(tensors, path)
    with pytest.raises(UnknownCheckpoint, match=r"layers\.1\.mlp\.up_proj\.bias"):
        run(tmp_path / "a", tmp_path / "b")


def test_int4_columns_in_another_order_are_found(tmp_path: Path) -> None:
    write_int4(tmp_path / "a", dialect="optimum")
    run(tmp_path / "a", tmp_path / "b")
    path = tmp_path / "b" / "model.safetensors"
    tensors = load_file(path)
    name = "model.layers.0.self_attn.q_proj.qzeros"
    tensors[name] = tensors[name].flip(1)
    save_file(tensors, path, metadata={"format": "pt"})
    manifest = read_manifest(tmp_path / "b")
    manifest.files["model.safetensors"] = record(path)
    write_manifest(tmp_path / "b", manifest)
    with pytest.raises(DamagedCheckpoint, match=re.escape(name)):
        verify(tmp_path / "a", tmp_path / "b")


def test_int4_weights_without_a_config_are_refused(tmp_path: Path) -> None:
    write_int4(tmp_path / "a", dialect="autogptq")
    (tmp_path / "a" / "quantize_config.json").unlink()
    with pytest.raises(UnknownCheckpoint, match="says how it is packed"):
        run(tmp_path / "a", tmp_path / "b")
