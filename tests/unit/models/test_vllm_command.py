"""How much context fits, and the command that says so to vLLM."""

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from models.vllm_command import (
    BLOCK,
    GIB,
    RESERVE,
    Plan,
    Role,
    command,
    configuration,
    kv_bytes,
    parallel,
    plan,
    shape,
    weights,
)
from pipeline.errors import InvalidInput, ModelUnavailable, RagError, TooLarge

V1_360K: dict[str, Any] = {
    "architectures": ["ZhinaoForCausalLM"],
    "model_type": "zhinao",
    "num_hidden_layers": 32,
    "num_attention_heads": 32,
    "hidden_size": 4096,
    "max_position_embeddings": 360000,
    "torch_dtype": "bfloat16",
}
V2_360K = V1_360K | {"num_key_value_heads": 8, "max_position_embeddings": 365000}
RERANKER = V1_360K | {
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "hidden_size": 2048,
    "max_position_embeddings": 4096,
}
SEARCH = {
    "architectures": ["TextEncoderModel"],
    "num_hidden_layers": 24,
    "num_attention_heads": 16,
    "hidden_size": 1024,
    "max_position_embeddings": 512,
    "torch_dtype": "float16",
}
V1_BYTES = 15_549_603_840
"""7,774,801,920 parameters of two bytes."""


def test_a_token_costs_what_the_notes_on_the_models_say() -> None:
    def cost(config: dict[str, Any]) -> int:
        of = shape(config)
        return kv_bytes(of.layers, of.kv_heads, of.head_dim, of.value_bytes)

    assert cost(V1_360K) == 512 * 1024
    assert cost(V2_360K) == 128 * 1024
    assert cost(RERANKER) == 192 * 1024
    assert round(cost(V1_360K) * 360_000 / GIB) == 176


def test_the_first_generation_gets_a_tenth_of_its_context_on_a_gpu_of_40_gib() -> None:
    fits = plan(V1_360K, 40 * GIB, 1, weights_bytes=V1_BYTES)
    expected = (36 * GIB - RESERVE - V1_BYTES) // (512 * 1024) // BLOCK * BLOCK
    assert (fits.max_model_len, fits.tensor_parallel) == (expected, 1)
    assert 36_000 < fits.max_model_len < 41_000


def test_the_second_generation_gets_all_its_context_on_one_gpu_of_80_gib() -> None:
    fits = plan(V2_360K, 80 * GIB, 1, weights_bytes=V1_BYTES)
    assert fits.max_model_len == 365_000
    assert fits.cached_tokens > 365_000


def test_heads_are_shared_out_whole() -> None:
    assert [parallel(shape(V2_360K), gpus) for gpus in (1, 2, 3, 4, 7, 8, 16)] == [
        *(1, 2, 2, 4, 4, 8, 16)
    ]


def test_a_reranker_reads_what_its_config_says_and_an_embedder_needs_no_cache() -> None:
    scores = plan(RERANKER, 16 * GIB, 1, weights_bytes=3_764_883_456, role="rerank")
    embeds = plan(SEARCH, 8 * GIB, 1, weights_bytes=651_044_864, role="embed")
    assert scores.max_model_len == 4096
    assert (embeds.max_model_len, embeds.kv_token_bytes) == (512, 0)


@pytest.mark.parametrize(
    ("arguments", "error", "says"),
    [
        ({"gpu_bytes": 16 * GIB}, ModelUnavailable, r"does not fit: 1 × 19\.4 GiB"),
        ({"wanted": 360_001}, TooLarge, "the model reads 360000"),
        ({"wanted": 200_000}, TooLarge, "fit into the memory of 1 GPUs"),
        ({"wanted": 0}, InvalidInput, "must be positive"),
        ({"gpus": 0}, InvalidInput, "at least one GPU"),
        ({"utilisation": 1.5}, InvalidInput, "a share of it up to 1"),
        ({"role": "embed"}, InvalidInput, "does not serve as embed"),
        ({"config": V1_360K | {"architectures": []}}, InvalidInput, "names no architecture"),
        ({"config": V1_360K | {"hidden_size": 4095}}, InvalidInput, "damaged"),
        ({"config": V1_360K | {"num_hidden_layers": True}}, InvalidInput, "num_hidden_layers True"),
        ({"config": V1_360K | {"num_key_value_heads": 5}}, InvalidInput, "5 key heads"),
        ({"config": V1_360K | {"torch_dtype": "int3"}}, InvalidInput, "int3"),
    ],
)
def test_what_cannot_be_is_a_sentence(
    arguments: dict[str, Any], error: type[RagError], says: str
) -> None:
    given_ = {"config": V1_360K, "gpu_bytes": 40 * GIB, "gpus": 1, "weights_bytes": V1_BYTES}
    with pytest.raises(error, match=says):
        plan(**(given_ | arguments))


MODELS = st.builds(
    lambda kv, group, layers, context: {
        "architectures": ["ZhinaoForCausalLM"],
        "num_hidden_layers": layers,
        "num_key_value_heads": kv,
        "num_attention_heads": kv * group,
        "hidden_size": kv * group * 128,
        "max_position_embeddings": context,
    },
    st.sampled_from([1, 2, 4, 8, 32]),
    st.sampled_from([1, 2, 4, 7]),
    st.integers(1, 64),
    st.integers(2048, 400_000),
)


def planned(config: dict[str, Any], memory: int, gpus: int, held: int) -> Plan | None:
    try:
        return plan(config, memory, gpus, weights_bytes=held)
    except ModelUnavailable:
        return None


@settings(deadline=None, max_examples=150)
@given(MODELS, st.integers(1, 200 * GIB), st.integers(1, 16), st.integers(1, 100 * GIB))
def test_what_is_planned_fits_into_every_gpu(
    config: dict[str, Any], memory: int, gpus: int, held: int
) -> None:
    fits = planned(config, memory, gpus, held)
    if fits is None:
        return
    assert 1 <= fits.tensor_parallel <= gpus
    assert 2048 <= fits.max_model_len <= config["max_position_embeddings"]
    used = held / fits.tensor_parallel + RESERVE + fits.kv_token_bytes * fits.cached_tokens
    assert used <= 0.9 * memory + 1
    of = shape(config)
    whole = kv_bytes(of.layers, of.kv_heads, of.head_dim, of.value_bytes)
    assert fits.kv_token_bytes * fits.tensor_parallel >= whole


@settings(deadline=None, max_examples=150)
@given(
    MODELS,
    st.integers(1, 100 * GIB),
    st.integers(0, 100 * GIB),
    st.integers(1, 8),
    st.integers(0, 8),
    st.integers(1, 40 * GIB),
)
def test_more_memory_or_more_gpus_never_give_less_context(
    config: dict[str, Any], memory: int, more: int, gpus: int, further: int, held: int
) -> None:
    small = planned(config, memory, gpus, held)
    large = planned(config, memory + more, gpus + further, held)
    if small is not None:
        assert large is not None
        assert large.max_model_len >= small.max_model_len


def test_the_commands_name_the_plan_and_what_vllm_must_be_told() -> None:
    def words(role: Role, length: int = 512) -> list[str]:
        fits = Plan(role, length, 2, 0.9, 1, 1)
        return command(fits, Path("/m/x"), name="x", port=9)

    chat = words("chat", 39_000)
    assert chat[:5] == ["vllm", "serve", "/m/x", "--served-model-name", "x"]
    assert chat[chat.index("--max-model-len") + 1] == "39000"
    assert chat[chat.index("--tensor-parallel-size") + 1] == "2"
    assert chat[chat.index("--gpu-memory-utilization") + 1] == "0.9"
    assert chat[chat.index("--generation-config") + 1] == "auto"
    assert "--runner" not in chat
    rerank = words("rerank")
    assert rerank[rerank.index("--convert") + 1] == "classify"
    pooler = json.loads(rerank[rerank.index("--pooler-config") + 1])
    assert pooler == {"seq_pooling_type": "LAST", "use_activation": False}
    embed = words("embed")
    assert json.loads(embed[embed.index("--pooler-config") + 1]) == {"seq_pooling_type": "CLS"}
    assert not any("trust" in word for word in [*chat, *rerank, *embed])


def test_the_weights_are_those_that_vllm_loads(tmp_path: Path) -> None:
    (tmp_path / "pytorch_model.bin").write_bytes(b"x" * 7)
    assert weights(tmp_path) == 7
    (tmp_path / "model-1.safetensors").write_bytes(b"x" * 3)
    (tmp_path / "model-2.safetensors").write_bytes(b"x" * 4)
    (tmp_path / "model-2.safetensors").write_bytes(b"x" * 5)
    assert weights(tmp_path) == 8
    with pytest.raises(InvalidInput, match="holds no weights"):
        weights(tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "says"), [(None, "cannot be read"), ("{", "no JSON"), ("[]", "no configuration")]
)
def test_a_folder_without_a_configuration_is_named(
    tmp_path: Path, text: str | None, says: str
) -> None:
    if text is not None:
        (tmp_path / "config.json").write_text(text, "utf-8")
    with pytest.raises(InvalidInput, match=says):
        configuration(tmp_path)
