"""Checkpoints in the published layout load without remote code, and compute what Qwen2 computes."""

import json

import pytest
import torch
from transformers import AutoConfig, AutoModel, AutoModelForCausalLM

from models.zhinao.config import ZhinaoConfig
from models.zhinao.modeling import ZhinaoForCausalLM, ZhinaoForReranking, complete, register
from models.zhinao.qkv import fuse_qkv, split_qkv
from tests.fixtures.tiny_zhinao import (
    read_weights,
    reference_qwen2,
    write_chat,
    write_reranker,
)

IDS = torch.tensor([[256, 3, 70, 90, 200, 11, 4], [9, 8, 7, 6, 5, 4, 3]])


@pytest.fixture(autouse=True)
def _registered():
    register()


@pytest.mark.parametrize(
    ("kv_heads", "shards", "form"),
    [(4, 1, "safetensors"), (2, 3, "safetensors"), (1, 1, "bin"), (2, 2, "bin")],
)
def test_logits_equal_qwen2s_to_the_bit(tmp_path, kv_heads, shards, form):
    folder = write_chat(tmp_path, kv_heads=kv_heads, shards=shards, form=form)
    model, loading = AutoModelForCausalLM.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, weights_only=True
    )
    assert type(model) is ZhinaoForCausalLM
    assert not loading["missing_keys"]
    assert not loading["unexpected_keys"]
    with torch.no_grad():
        assert torch.equal(model.eval()(IDS).logits, reference_qwen2(folder)(IDS).logits)


@pytest.mark.parametrize("kv_heads", [4, 2])
def test_saving_writes_the_published_layout_again(tmp_path, kv_heads):
    folder = write_chat(tmp_path / "a", kv_heads=kv_heads)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    model.save_pretrained(tmp_path / "b")
    before, after = read_weights(folder), read_weights(tmp_path / "b")
    assert before.keys() == after.keys()
    assert all(torch.equal(before[name], after[name]) for name in before)
    again = AutoModelForCausalLM.from_pretrained(tmp_path / "b", dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(again(IDS).logits, model(IDS).logits)


def test_a_contiguous_cut_is_another_model():
    fused = torch.arange(6 * 4.0).reshape(24, 1)
    q, k, v = split_qkv(fused, heads=4, kv_heads=1, head_dim=4)
    assert q.flatten().tolist() == list(range(16))
    assert k.flatten().tolist() == [16, 17, 18, 19]
    q, k, v = split_qkv(fused, heads=2, kv_heads=2, head_dim=4)
    assert k.flatten().tolist() == [4, 5, 6, 7, 16, 17, 18, 19]
    assert torch.equal(fuse_qkv(q, k, v, kv_heads=2), fused)
    with pytest.raises(ValueError, match="48 rows, and this one has 24"):
        split_qkv(fused, heads=8, kv_heads=2, head_dim=4)


def test_a_published_config_is_read_as_it_is(tmp_path):
    folder = write_chat(tmp_path, config={"rope_theta": 5e7, "log_logit": True, "switch": 1})
    config = AutoConfig.from_pretrained(folder)
    assert type(config) is ZhinaoConfig
    assert config.rope_parameters["rope_theta"] == 5e7
    assert config.attention_dropout == 0
    assert config.switch == 1
    assert config.tie_word_embeddings is False


def test_omitted_keys_get_the_published_defaults():
    config = ZhinaoConfig(num_attention_heads=8, hidden_size=256)
    assert config.num_key_value_heads == 8
    assert config.rope_parameters["rope_theta"] == 10000
    assert (config.vocab_size, config.rms_norm_eps, config.max_position_embeddings) == (
        32000,
        1e-6,
        2048,
    )
    with pytest.raises(ValueError, match="do not divide"):
        ZhinaoConfig(num_attention_heads=8, num_key_value_heads=3, hidden_size=256)


def test_generation_is_greedy_qwen2s_and_stops_by_default(tmp_path):
    folder = write_chat(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    stops = json.loads((folder / "generation_config.json").read_text())["eos_token_id"]
    options = {"do_sample": False, "max_new_tokens": 12, "attention_mask": torch.ones_like(IDS[:1])}
    options |= {"top_p": None, "top_k": None, "temperature": None}
    ours = model.generate(IDS[:1], **options)
    other = reference_qwen2(folder).generate(
        IDS[:1],
        **options,
        eos_token_id=stops,
        pad_token_id=stops[0],
        suppress_tokens=list(range(max(stops) + 1, model.config.vocab_size)),
    )
    assert torch.equal(ours, other)
    assert model.generation_config.eos_token_id == stops


def test_rows_that_only_pad_the_vocabulary_are_never_sampled(tmp_path):
    folder = write_chat(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32)
    last = max(model.generation_config.eos_token_id)
    assert last + 1 < model.config.vocab_size
    with torch.no_grad():
        model.lm_head.weight[last + 1 :] *= 1000
    torch.manual_seed(0)
    mask = torch.ones_like(IDS)
    drawn = model.generate(IDS, attention_mask=mask, max_new_tokens=30, do_sample=True, top_k=0)
    assert drawn[:, IDS.shape[1] :].max() <= last


def test_a_folder_without_generation_defaults_still_stops():
    from transformers import GenerationConfig

    generation = GenerationConfig()
    complete(generation, 158464)
    assert generation.eos_token_id == [158326, 158332, 158333]
    assert generation.pad_token_id == 158326
    assert generation.suppress_tokens == list(range(158334, 158464))


def test_the_reranker_scores_a_position_and_keeps_no_lm_head(tmp_path):
    folder = write_reranker(tmp_path)
    model, loading = ZhinaoForReranking.from_pretrained(
        folder, dtype=torch.float32, output_loading_info=True, weights_only=True
    )
    assert not loading["missing_keys"]
    assert not any("lm_head" in name for name, _ in model.named_parameters())
    backbone, head = reference_qwen2(folder).model, read_weights(folder)["linear.weight"]
    with torch.no_grad():
        expected = (backbone(IDS).last_hidden_state @ head.T).squeeze(-1)
        assert torch.equal(model.eval()(IDS), expected)
        at = torch.tensor([2, 5])
        assert torch.equal(model(IDS, positions=at), expected[torch.arange(2), at])
    layers = AutoModel.from_pretrained(folder, dtype=torch.float32)
    with torch.no_grad():
        assert torch.equal(layers(IDS).last_hidden_state, backbone(IDS).last_hidden_state)
