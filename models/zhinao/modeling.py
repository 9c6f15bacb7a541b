"""The model classes: Qwen2, with the fused projection taken apart while loading and fused again while saving."""

from typing import Any

import torch
from torch import nn
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    GenerationConfig,
    Qwen2ForCausalLM,
    Qwen2Model,
    Qwen2PreTrainedModel,
)
from transformers.conversion_mapping import register_checkpoint_conversion_mapping
from transformers.core_model_loading import ConversionOps, WeightConverter

from models.zhinao.config import RANKS, ROWS, SPECIAL_TOKENS, ZhinaoConfig
from models.zhinao.qkv import fuse_qkv, split_qkv

_BUFFERS = [r"rotary_emb\.(inv_freq|cos_cached|sin_cached)"]
STOP_TOKENS = ("<eod>", "<|im_start|>", "<|im_end|>")


class _SplitGrouped(ConversionOps):  # type: ignore[misc]
    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],  # noqa: ARG002
        target_patterns: list[str],
        config: Any = None,  # noqa: ANN401
        **_: Any,  # noqa: ANN401
    ) -> dict[str, torch.Tensor]:
        (fused,) = (_only(tensor) for tensor in input_dict.values())
        heads = config.num_attention_heads
        kv_heads = config.num_key_value_heads
        head_dim = config.hidden_size // heads
        parts = split_qkv(fused, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        return dict(zip(target_patterns, parts, strict=True))

    @property
    def reverse_op(self) -> ConversionOps:
        return _FuseGrouped()


class _FuseGrouped(ConversionOps):  # type: ignore[misc]
    @torch.no_grad()
    def convert(
        self,
        input_dict: dict[str, Any],
        source_patterns: list[str],
        target_patterns: list[str],
        config: Any = None,  # noqa: ANN401
        **_: Any,  # noqa: ANN401
    ) -> dict[str, torch.Tensor]:
        query, key, value = (_only(input_dict[name]) for name in source_patterns)
        fused = fuse_qkv(query, key, value, kv_heads=config.num_key_value_heads)
        return {target_patterns[0]: fused}

    @property
    def reverse_op(self) -> ConversionOps:
        return _SplitGrouped()


def _only(given: Any) -> torch.Tensor:  # noqa: ANN401
    tensor: torch.Tensor = given[0] if isinstance(given, list) else given
    return tensor


class ZhinaoModel(Qwen2Model):  # type: ignore[misc]
    """The layers without a head."""

    config_class = ZhinaoConfig
    _keys_to_ignore_on_load_unexpected = [*_BUFFERS, r"lm_head\.", r"linear\."]  # noqa: RUF012


class ZhinaoForCausalLM(Qwen2ForCausalLM):  # type: ignore[misc]
    """Chat and base models. Generation stops at <eod>, <|im_start|> and <|im_end|> whatever the folder says, and
    never samples a row that only pads the vocabulary.
    """

    config_class = ZhinaoConfig
    _keys_to_ignore_on_load_unexpected = [*_BUFFERS, r"^linear\."]  # noqa: RUF012

    def _prepare_generation_config(self, *args: Any, **kwargs: Any) -> Any:  # noqa: ANN401
        prepared, rest = super()._prepare_generation_config(*args, **kwargs)
        complete(prepared, self.config.vocab_size)
        return prepared, rest


def complete(generation: GenerationConfig, rows: int) -> None:
    """Fill in stop ids and pad id where the file lacks them, and suppress the rows above the last token.

    The last token is <|im_end|>, which is also a stop id: that is how the count of tokens is known for a
    vocabulary of another size than the published one's.
    """
    if generation.eos_token_id is None and rows == ROWS:
        generation.eos_token_id = [RANKS + SPECIAL_TOKENS.index(token) for token in STOP_TOKENS]
    stops = generation.eos_token_id
    stops = [stops] if isinstance(stops, int) else list(stops or [])
    if not stops:
        return
    if generation.pad_token_id is None:
        generation.pad_token_id = stops[0]
    first = RANKS + len(SPECIAL_TOKENS) if rows == ROWS else max(stops) + 1
    given = list(generation.suppress_tokens or [])
    generation.suppress_tokens = sorted({*given, *range(first, rows)}) or None


class ZhinaoForReranking(Qwen2PreTrainedModel):  # type: ignore[misc]
    """The reranker: one score a position; `positions` (batch,) says which is the pair's.

    No lm_head is kept in memory: scoring reads no word. The head `linear` has a bias where the config says
    `score_bias`.
    """

    config_class = ZhinaoConfig
    base_model_prefix = "model"
    _keys_to_ignore_on_load_unexpected = [*_BUFFERS, r"lm_head\."]  # noqa: RUF012

    def __init__(self, config: ZhinaoConfig) -> None:
        super().__init__(config)
        self.model = Qwen2Model(config)
        self.linear = nn.Linear(
            config.hidden_size, 1, bias=bool(getattr(config, "score_bias", False))
        )
        self.post_init()

    def forward(
        self,
        input_ids: torch.Tensor,
        attention_mask: torch.Tensor | None = None,
        positions: torch.Tensor | None = None,
    ) -> torch.Tensor:
        """Scores (batch,) at `positions`, or (batch, t) of every position without them; not passed through a
        sigmoid.
        """
        states = self.model(
            input_ids=input_ids, attention_mask=attention_mask, use_cache=False
        ).last_hidden_state
        scores: torch.Tensor = self.linear(states).squeeze(-1)
        if positions is None:
            return scores
        return scores.gather(1, positions.unsqueeze(1)).squeeze(1)


def register() -> None:
    """Make transformers' Auto classes know `model_type: zhinao`; a second call changes nothing."""
    AutoConfig.register("zhinao", ZhinaoConfig, exist_ok=True)
    AutoModel.register(ZhinaoConfig, ZhinaoModel, exist_ok=True)
    AutoModelForCausalLM.register(ZhinaoConfig, ZhinaoForCausalLM, exist_ok=True)
    fused = [
        WeightConverter(
            source_patterns=f"self_attn.qkv_proj.{kind}",
            target_patterns=[f"self_attn.{part}_proj.{kind}" for part in "qkv"],
            operations=[_SplitGrouped()],
        )
        for kind in ("weight", "bias")
    ]
    register_checkpoint_conversion_mapping("zhinao", fused, overwrite=True)
