"""The table of published models agrees with the classes that load them."""

import pytest
import torch
from transformers import BertConfig, BertModel, LlamaConfig, LlamaForCausalLM

from models.zhinao.config import ZhinaoConfig
from models.zhinao.known import (
    RERANKER,
    SEARCH_PARAMETERS,
    V1,
    V2,
    Kind,
    Terms,
    int4_bytes,
    known,
    known_models,
)
from models.zhinao.modeling import ZhinaoForCausalLM

ZHINAO = [m for m in known_models() if m.shape and "llama3" not in m.name]


@pytest.mark.parametrize("model", ZHINAO, ids=lambda m: m.name)
def test_the_config_of_each_builds_a_model_of_its_size(model):
    shape = model.shape
    config = ZhinaoConfig(
        vocab_size=shape.vocabulary, hidden_size=shape.hidden, num_hidden_layers=shape.layers,
        num_attention_heads=shape.heads, num_key_value_heads=shape.kv_heads,
        intermediate_size=shape.intermediate, max_position_embeddings=model.context or 4096,
        rope_theta=model.rope_theta or 1e4, rms_norm_eps=1e-5,
    )  # fmt: skip
    assert config.kv_bytes_per_token == model.kv_bytes_per_token
    assert config.rope_parameters["rope_theta"] == (model.rope_theta or 1e4)
    with torch.device("meta"):
        built = ZhinaoForCausalLM(config)
    assert sum(p.numel() for p in built.parameters()) == shape.parameters


def test_the_published_numbers_of_parameters_and_bytes():
    assert V1.parameters == 7_774_801_920
    assert V2.parameters == 7_774_605_312
    assert RERANKER.parameters == 1_882_441_728
    assert (V1.kv_bytes_per_token, V2.kv_bytes_per_token) == (512 * 1024, 128 * 1024)
    assert RERANKER.kv_bytes_per_token == 192 * 1024
    assert int4_bytes(V1) == pytest.approx(5.96e9, rel=0.01)


def test_the_embedder_and_the_llama_have_their_sizes():
    with torch.device("meta"):
        bert = BertModel(
            BertConfig(
                vocab_size=21128, hidden_size=1024, num_hidden_layers=24, num_attention_heads=16,
                intermediate_size=4096,
            )
        )  # fmt: skip
        llama = LlamaForCausalLM(
            LlamaConfig(
                vocab_size=128256, hidden_size=4096, num_hidden_layers=32, num_attention_heads=32,
                num_key_value_heads=8, intermediate_size=14336, tie_word_embeddings=False,
            )
        )  # fmt: skip
    assert sum(p.numel() for p in bert.parameters()) == SEARCH_PARAMETERS
    model = known("llama3-8B-360Zhinao-360k-Instruct")
    assert sum(p.numel() for p in llama.parameters()) == model.shape.parameters
    assert model.rope_theta == 5e8


def test_every_entry_of_the_family_is_there_once():
    names = [model.name for model in known_models()]
    assert len(names) == len(set(names)) == 20
    for name in ("360Zhinao-7B-Base", "360Zhinao-7B-Chat-4K", "360Zhinao-7B-Chat-32K", "360Zhinao-7B-Chat-360K",
                 "360Zhinao-7B-Chat-4K-Int4", "360Zhinao-7B-Chat-32K-Int4", "360Zhinao-7B-Chat-360K-Int4",
                 "360Zhinao-search", "360Zhinao-1.8B-Reranking", "llama3-8B-360Zhinao-360k-Instruct"):  # fmt: skip
        assert name in names
    assert known("qihoo360/360zhinao-SEARCH").kind is Kind.EMBED
    assert known("bert-base") is None


def test_only_the_first_generation_needs_an_application_for_commercial_use():
    first = {m.name for m in known_models() if m.terms is Terms.ZHINAO_V1}
    assert all(m.generation > 1 or m.name in first or "llama3" in m.name for m in known_models())
    assert not any(name.startswith(("360Zhinao2", "360Zhinao3")) for name in first)
