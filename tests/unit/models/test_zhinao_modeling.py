"""Checkpoints in the published layout load without remote code, and compute what Qwen2 computes."""

import json
import pickle

import pytest
import torch
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationConfig,
    Qwen2ForCausalLM,
)

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


@pytest.mark.parametrize("given", [None, 158326, [158326], [5, 158333]])
def test_the_three_stops_are_there_whatever_the_folder_says(given):
    generation = GenerationConfig(eos_token_id=given)
    complete(generation, 158464)
    assert {158326, 158332, 158333} <= set(generation.eos_token_id)
    assert set(generation.eos_token_id) <= {158326, 158332, 158333, 5}
    assert generation.pad_token_id == 158326
    assert generation.suppress_tokens == list(range(158334, 158464))


def test_another_vocabulary_is_measured_by_its_stops_or_by_its_tokenizer():
    by_stops = GenerationConfig(eos_token_id=[103, 109, 110])
    complete(by_stops, 128)
    assert by_stops.suppress_tokens == list(range(111, 128))
    by_length = GenerationConfig()
    complete(by_length, 128, 111)
    assert by_length.eos_token_id == [103, 109, 110]
    assert by_length.suppress_tokens == by_stops.suppress_tokens
    unknown = GenerationConfig(eos_token_id=103)
    complete(unknown, 128)
    assert (unknown.eos_token_id, unknown.suppress_tokens) == (103, None)


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


def test_a_pair_is_scored_where_the_config_says(tmp_path):
    folder = write_reranker(tmp_path)
    rows = [[9, 8, 7, 6, 5, 4, 3], [70, 71, 72, 73, 74]]
    ids = torch.tensor([rows[0], [*rows[1], 0, 0]])
    mask = torch.tensor([[1] * 7, [1, 1, 1, 1, 1, 0, 0]])
    backbone, head = reference_qwen2(folder).model, read_weights(folder)["linear.weight"][0]
    for position, from_end in [
        (None, 4),
        ("before_placeholder", 4),
        ("placeholder", 3),
        ("last", 1),
        ("mean", 0),
    ]:
        config = ZhinaoConfig.from_pretrained(folder)
        config.score_position = position
        model = ZhinaoForReranking.from_pretrained(folder, config=config, dtype=torch.float32)
        with torch.no_grad():
            found = model.score(ids, mask)
            for row, score in zip(rows, found, strict=True):
                states = backbone(torch.tensor([row])).last_hidden_state[0]
                read = states[-from_end] if from_end else states.mean(0)
                assert score.item() == pytest.approx((read @ head).item(), abs=1e-5)


def test_an_unknown_score_position_is_refused(tmp_path):
    config = ZhinaoConfig.from_pretrained(write_reranker(tmp_path))
    config.score_position = "first"
    with pytest.raises(ValueError, match="'first': set one of before_placeholder"):
        ZhinaoForReranking(config)


def test_a_heads_bias_is_read_where_the_folder_has_one(tmp_path):
    folder = write_reranker(tmp_path / "a", bias=True)
    model = ZhinaoForReranking.from_pretrained(folder, dtype=torch.float32)
    weights = read_weights(folder)
    assert torch.equal(model.linear.bias, weights["linear.bias"])
    assert torch.equal(model.linear.weight, weights["linear.weight"])
    plain = ZhinaoForReranking.from_pretrained(write_reranker(tmp_path / "b"), dtype=torch.float32)
    assert plain.linear.bias is None


def test_a_chat_model_is_no_reranker(tmp_path):
    with pytest.raises(ValueError, match="no score head"):
        ZhinaoForReranking.from_pretrained(write_chat(tmp_path), dtype=torch.float32)


def test_a_saved_reranker_is_published_layout_without_the_words(tmp_path):
    folder = write_reranker(tmp_path / "a", bias=True)
    ZhinaoForReranking.from_pretrained(folder, dtype=torch.float32).save_pretrained(tmp_path / "b")
    before, after = read_weights(folder), read_weights(tmp_path / "b")
    assert before.keys() - after.keys() == {"lm_head.weight"}
    assert all(torch.equal(before[name], after[name]) for name in after)
    again = ZhinaoForReranking.from_pretrained(tmp_path / "b", dtype=torch.float32)
    assert torch.equal(again.linear.bias, before["linear.bias"])


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_qwen2s_with_angles_in_float32(tmp_path, dtype):
    folder = write_chat(tmp_path / "a", kv_heads=2)
    reference_qwen2(folder).save_pretrained(tmp_path / "b")
    reference = Qwen2ForCausalLM.from_pretrained(tmp_path / "b", dtype=dtype)
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    assert model.lm_head.weight.dtype is dtype
    assert model.model.rotary_emb.inv_freq.dtype is torch.float32
    with torch.no_grad():
        assert torch.equal(model(IDS).logits, reference(IDS).logits)


def test_attention_is_sdpa_unless_asked(tmp_path):
    folder = write_chat(tmp_path)
    model = AutoModelForCausalLM.from_pretrained(folder)
    assert model.config._attn_implementation == "sdpa"
    eager = AutoModelForCausalLM.from_pretrained(folder, attn_implementation="eager")
    assert eager.config._attn_implementation == "eager"
    with torch.no_grad():
        torch.testing.assert_close(eager(IDS).logits, model(IDS).logits, atol=1e-4, rtol=0)


def test_a_bin_that_holds_code_is_not_run(tmp_path):
    folder = write_chat(tmp_path, form="bin")
    flag = tmp_path / "ran"

    class Code:
        def __reduce__(self):
            return (flag.touch, ())

    torch.save({"model.norm.weight": Code()}, folder / "pytorch_model.bin")
    with pytest.raises(pickle.UnpicklingError, match="Weights only load failed"):
        AutoModelForCausalLM.from_pretrained(folder)
    assert not flag.exists()
