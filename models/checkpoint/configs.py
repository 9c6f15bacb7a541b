"""The config.json and generation_config.json of a converted folder."""

from collections.abc import Mapping
from typing import Any

from models.checkpoint.errors import UnknownCheckpoint
from models.checkpoint.plan import Geometry

SCORE_POSITION = "score_position"
SCORE_OFFSET = "score_offset"
"""What is added to each score: the bias of the published head, as Qwen2's head `score` has none."""

_BERT_SIZES = (
    "vocab_size", "hidden_size", "num_hidden_layers", "intermediate_size",
    "max_position_embeddings", "type_vocab_size",
)  # fmt: skip
BERT: Mapping[str, Any] = {
    "num_attention_heads": 12,
    "hidden_act": "gelu",
    "hidden_dropout_prob": 0.1,
    "attention_probs_dropout_prob": 0.1,
    "initializer_range": 0.02,
    "layer_norm_eps": 1e-12,
    "pad_token_id": 0,
    "position_embedding_type": "absolute",
}
"""BertConfig of transformers, where config.json says nothing."""


def qwen2_config(
    config: Mapping[str, Any],
    geometry: Geometry,
    *,
    dtype: str,
    ids: Mapping[str, int],
    rerank: bool,
    score_offset: float,
    quantisation: Mapping[str, object] | None,
    where: str,
) -> dict[str, Any]:
    """A plain Qwen2 config. `ids` are those of `<eod>`, `<|im_start|>` and `<|im_end|>`.

    `score_position` stays null until `zhinao models verify` has measured it. Raises
    UnknownCheckpoint for another activation and for a setting of the rotary embedding that is not
    known.
    """
    if config.get("hidden_act", "silu") != "silu":
        raise UnknownCheckpoint(f"{where} has the activation {config['hidden_act']!r}, not silu.")
    theta = _rope_theta(config, where)
    fields: dict[str, Any] = {
        "architectures": ["Qwen2ForSequenceClassification" if rerank else "Qwen2ForCausalLM"],
        "model_type": "qwen2",
        "vocab_size": geometry.vocab,
        "hidden_size": geometry.hidden,
        "intermediate_size": geometry.intermediate,
        "num_hidden_layers": geometry.layers,
        "num_attention_heads": geometry.heads,
        "num_key_value_heads": geometry.kv_heads,
        "hidden_act": "silu",
        "max_position_embeddings": config.get("max_position_embeddings", 2048),
        "initializer_range": config.get("initializer_range", 0.02),
        "rms_norm_eps": config.get("rms_norm_eps", 1e-6),
        "rope_theta": theta,
        "rope_scaling": None,
        "attention_dropout": 0.0,
        "use_sliding_window": False,
        "max_window_layers": geometry.layers,
        "tie_word_embeddings": geometry.tied,
        "use_cache": True,
        "torch_dtype": dtype,
        "bos_token_id": None,
        "eos_token_id": [ids["<eod>"], ids["<|im_start|>"], ids["<|im_end|>"]],
        "pad_token_id": ids["<eod>"],
    }
    if geometry.head_dim * geometry.heads != geometry.hidden:
        fields["head_dim"] = geometry.head_dim
    if quantisation is not None:
        fields["quantization_config"] = dict(quantisation)
    if rerank:
        fields |= {
            "eos_token_id": ids["<eod>"],
            "id2label": {"0": "relevance"},
            "label2id": {"relevance": 0},
            # Scores are raw, without a sigmoid: sentence-transformers and vLLM read this.
            "sentence_transformers": {"activation_fn": "torch.nn.modules.linear.Identity"},
            SCORE_POSITION: None,
            SCORE_OFFSET: score_offset,
        }
    return fields


def bert_config(config: Mapping[str, Any], dtype: str) -> dict[str, Any]:
    """A plain BERT config: the sizes of the published one, without its wrapper class.

    What it leaves out is written as transformers takes it, since TEI has no defaults for that.
    """
    fields = dict(BERT) | {name: config[name] for name in (*BERT, *_BERT_SIZES) if name in config}
    return {
        "architectures": ["BertModel"],
        "model_type": "bert",
        **fields,
        "torch_dtype": dtype,
    }


def generation_config(
    published: Mapping[str, Any], ids: Mapping[str, int], *, vocab: int
) -> dict[str, Any]:
    """How to sample by default. The three stop ids are always there: without `<eod>` it rambles.

    The rows over `<|im_end|>`, the last token, only pad the vocabulary of `vocab` rows: they are
    never sampled.
    """
    stops = [ids["<eod>"], ids["<|im_start|>"], ids["<|im_end|>"]]
    given = published.get("eos_token_id", [])
    extra = [given] if isinstance(given, int) else list(given or [])
    defaults: dict[str, Any] = {
        "do_sample": True,
        "top_k": 0,
        "top_p": 0.8,
        "temperature": 1.0,
        "repetition_penalty": 1.0,
        "max_new_tokens": 1024,
    }
    known = {name: published[name] for name in defaults if published.get(name) is not None}
    return {
        **defaults,
        **known,
        "pad_token_id": ids["<eod>"],
        "eos_token_id": stops + [stop for stop in extra if stop not in stops],
        "suppress_tokens": list(range(ids["<|im_end|>"] + 1, vocab)) or None,
    }


def _rope_theta(config: Mapping[str, Any], where: str) -> float:
    parameters = config.get("rope_parameters") or {}
    scaling = config.get("rope_scaling")
    kind = parameters.get("rope_type", "default") if isinstance(parameters, Mapping) else "?"
    if scaling is not None or kind != "default":
        raise UnknownCheckpoint(
            f"{where} scales its rotary embedding ({scaling or parameters}); no known checkpoint of "
            "the family does."
        )
    theta = parameters.get("rope_theta", config.get("rope_theta", 10000.0))
    if not isinstance(theta, int | float) or theta <= 0:
        raise UnknownCheckpoint(f"{where} has the rope_theta {theta!r}: a number is needed.")
    return float(theta)
