"""A published config.json is read as it is, whatever else stands in it, and runs no code of its folder."""

import json

import pytest
from transformers import AutoConfig

from models.zhinao import modeling
from models.zhinao.config import ZhinaoConfig
from models.zhinao.vocabulary import RANKS, ROWS, SPECIAL_TOKENS

BASE = {
    "architectures": ["ZhinaoForCausalLM"],
    "auto_map": {
        "AutoConfig": "configuration_zhinao.ZhinaoConfig",
        "AutoModelForCausalLM": "modeling_zhinao.ZhinaoForCausalLM",
    },
    "model_type": "zhinao",
    "hidden_act": "silu",
    "hidden_size": 4096,
    "initializer_range": 0.01,
    "intermediate_size": 11008,
    "num_attention_heads": 32,
    "num_hidden_layers": 32,
    "num_key_value_heads": 32,
    "rms_norm_eps": 1e-05,
    "tie_word_embeddings": False,
    "torch_dtype": "bfloat16",
    "vocab_size": 158464,
}
SECOND = {"intermediate_size": 13056, "num_key_value_heads": 8}
# Name: what differs, context, base of the rotary embedding.
PUBLISHED = {
    "v1 Chat-4K": ({"rope_theta": 10000.0, "rope_scaling": None}, 4096, 1e4),
    "v1 Chat-32K": ({"rope_theta": 5e7, "rope_scaling": None}, 32768, 5e7),
    "v1 Chat-360K": ({"rope_theta": 50000000, "rope_scaling": None}, 360_000, 5e7),
    "v2 Base": (SECOND, 4096, 1e4),
    "v2 Chat-4K": (SECOND | {"rope_theta": 10000.0, "attention_dropout": 0.1}, 4096, 1e4),
    "v2 Chat-32K": (SECOND | {"rope_theta": 1000000.0, "attention_dropout": 0.1}, 36_000, 1e6),
    "v2 Chat-360K": (SECOND | {"rope_theta": 5e7, "attention_dropout": 0.1}, 365_000, 5e7),
    "reranker": (
        {"hidden_size": 2048, "num_hidden_layers": 24, "num_attention_heads": 16,
         "num_key_value_heads": 16, "intermediate_size": 5632, "rope_theta": 10000.0},
        4096, 1e4,
    ),
}  # fmt: skip
IGNORED = {
    "model_max_length": 4096,
    "bf16": True,
    "fp16": False,
    "use_flash_attn": "auto",
    "use_cache": True,
    "flah-attn_version": "2.5.5",
    "log_logit": True,
    "switch": 1,
    "use_focal": False,
    "use_loss_weight": 0.5,
    "use_pack_loss": True,
    "emb_dropout_prob": 0.1,
    "attn_dropout_prob": 0.1,
    "attention_dropout": 0.1,
}


@pytest.fixture(autouse=True)
def _registered():
    modeling.register()


def written(folder, **fields):
    (folder / "config.json").write_text(json.dumps(fields))
    return folder


@pytest.mark.parametrize("name", PUBLISHED)
def test_context_rotary_base_and_heads_are_those_of_the_file(tmp_path, name):
    differs, context, theta = PUBLISHED[name]
    fields = BASE | differs | {"max_position_embeddings": context}
    config = AutoConfig.from_pretrained(written(tmp_path, **fields), trust_remote_code=False)
    assert type(config) is ZhinaoConfig
    assert config.max_position_embeddings == context
    assert config.rope_parameters == {"rope_type": "default", "rope_theta": theta}
    assert config.num_key_value_heads == fields["num_key_value_heads"]
    assert config.intermediate_size == fields["intermediate_size"]
    assert config.attention_dropout == 0
    assert config.use_sliding_window is False
    assert set(config.layer_types) == {"full_attention"}
    assert (config.vocab_size, config.rms_norm_eps) == (ROWS, 1e-5)


@pytest.mark.parametrize("key", IGNORED)
def test_a_key_of_training_is_accepted_alone(tmp_path, key):
    config = AutoConfig.from_pretrained(
        written(tmp_path, **BASE, **{key: IGNORED[key]}), trust_remote_code=False
    )
    assert config.attention_dropout == 0
    if key != "attention_dropout":
        assert getattr(config, key) == IGNORED[key]


def test_all_keys_of_training_together_survive_saving(tmp_path):
    config = AutoConfig.from_pretrained(
        written(tmp_path, **BASE, **IGNORED), trust_remote_code=False
    )
    config.save_pretrained(tmp_path / "again")
    saved = json.loads((tmp_path / "again" / "config.json").read_text())
    assert saved["model_type"] == "zhinao"
    assert saved["flah-attn_version"] == "2.5.5"
    again = AutoConfig.from_pretrained(tmp_path / "again", trust_remote_code=False)
    elsewhere = {"_name_or_path": None}
    assert again.to_dict() | elsewhere == config.to_dict() | elsewhere


@pytest.mark.parametrize("value", [True, False, "auto"])
def test_flash_attention_of_the_old_class_is_ignored_in_each_form(tmp_path, value):
    assert ZhinaoConfig(**BASE, use_flash_attn=value).use_flash_attn == value


def test_code_of_the_folder_is_never_run(tmp_path):
    flag = tmp_path / "ran"
    folder = tmp_path / "360Zhinao-1.8B"
    folder.mkdir()
    code = f"from pathlib import Path\nPath({str(flag)!r}).touch()\nclass ZhinaoConfig: pass\n"
    (folder / "configuration_zhinao.py").write_text(code)
    config = AutoConfig.from_pretrained(written(folder, **BASE), trust_remote_code=False)
    assert type(config) is ZhinaoConfig
    assert type(AutoConfig.from_pretrained(folder)) is ZhinaoConfig
    assert not flag.exists()


def test_keys_and_values_of_a_token_take_the_published_bytes():
    sizes = {
        name: ZhinaoConfig(**(BASE | differs)).kv_bytes_per_token
        for name, (differs, _, _) in PUBLISHED.items()
    }
    assert sizes["v1 Chat-360K"] == 512 * 1024
    assert sizes["v2 Chat-360K"] == 128 * 1024
    assert sizes["reranker"] == 192 * 1024


def test_the_padding_rows_begin_after_the_last_special_token():
    assert SPECIAL_TOKENS[-1] == "<|im_end|>"
    assert RANKS + len(SPECIAL_TOKENS) == 158_334
    assert ROWS == 128 * 1238


@pytest.mark.parametrize(
    "fields",
    [{"num_key_value_heads": 5}, {"num_attention_heads": 48, "num_key_value_heads": 48}],
)
def test_sizes_that_do_not_divide_are_refused(fields):
    with pytest.raises(ValueError, match="not a 360Zhinao model's"):
        ZhinaoConfig(**(BASE | fields))
