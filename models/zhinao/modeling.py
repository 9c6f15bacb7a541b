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

from models.zhinao.config import ZhinaoConfig
from models.zhinao.qkv import fuse_qkv, split_qkv
from models.zhinao.vocabulary import RANKS, ROWS, SPECIAL_TOKENS

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
        complete(prepared, self.config.vocab_size, getattr(self.config, "token_count", None))
        return prepared, rest


def complete(generation: GenerationConfig, rows: int, tokens: int | None = None) -> None:
    """Fill in the stop ids and the pad id that the file lacks, and suppress the rows above the last token.

    `tokens` is the tokenizer's length. Without it, the published number of rows tells it, or the three stop
    ids of another vocabulary, of which the last is the last token; else nothing is changed.
    """
    given = generation.eos_token_id
    stops = [given] if isinstance(given, int) else list(given or [])
    tokens = tokens or _token_count(rows, stops)
    if tokens is None:
        return
    first = tokens - len(SPECIAL_TOKENS)
    own = [first + SPECIAL_TOKENS.index(token) for token in STOP_TOKENS]
    generation.eos_token_id = stops + [stop for stop in own if stop not in stops]
    if generation.pad_token_id is None:
        generation.pad_token_id = own[0]
    suppressed = {*(generation.suppress_tokens or []), *range(tokens, rows)}
    generation.suppress_tokens = sorted(suppressed) or None


def _token_count(rows: int, stops: list[int]) -> int | None:
    if rows == ROWS:
        return RANKS + len(SPECIAL_TOKENS)
    end = max(stops, default=-1)  # <|im_end|>, if <eod> and <|im_start|> stand where they must
    ids = {end + 1 - len(SPECIAL_TOKENS) + SPECIAL_TOKENS.index(token) for token in STOP_TOKENS}
    return end + 1 if ids <= set(stops) else None


FROM_END = {"before_placeholder": 4, "placeholder": 3, "last": 1}
"""Where the head reads, in tokens from the end of a pair's prompt: line break, `0`, <|im_end|>, line break."""
MEAN = "mean"


class ZhinaoForReranking(Qwen2PreTrainedModel):  # type: ignore[misc]
    """The reranker: one score a position. No lm_head is kept in memory: scoring reads no word.

    The config's `score_position` says which score is the pair's: a key of `FROM_END` or `MEAN`; the first one
    where it says nothing. The head `linear` has a bias (`linear_has_bias` in the config) where the folder
    holds one. Raises ValueError for another position, and for a folder without the head.
    """

    config_class = ZhinaoConfig
    base_model_prefix = "model"
    _keys_to_ignore_on_load_unexpected = [*_BUFFERS, r"lm_head\."]  # noqa: RUF012

    def __init__(self, config: ZhinaoConfig) -> None:
        super().__init__(config)
        self.score_position = getattr(config, "score_position", None) or next(iter(FROM_END))
        if self.score_position not in (*FROM_END, MEAN):
            raise ValueError(
                f"config.json has the score_position {self.score_position!r}: set one of "
                f"{', '.join((*FROM_END, MEAN))}"
            )
        self.model = Qwen2Model(config)
        self.linear = nn.Linear(
            config.hidden_size, 1, bias=bool(getattr(config, "linear_has_bias", False))
        )
        self.post_init()

    @classmethod
    def from_pretrained(
        cls,
        name: Any,  # noqa: ANN401
        *given: Any,  # noqa: ANN401
        output_loading_info: bool = False,
        **options: Any,  # noqa: ANN401
    ) -> Any:  # noqa: ANN401
        """As transformers' own, with or without a bias as the folder is."""
        model, report = super().from_pretrained(name, *given, output_loading_info=True, **options)
        if "linear.bias" in report["unexpected_keys"]:
            model.config.linear_has_bias = True
            options["config"] = model.config
            model, report = super().from_pretrained(
                name, *given, output_loading_info=True, **options
            )
        if "linear.weight" in report["missing_keys"]:
            raise ValueError(
                f"{name} has no score head (linear.weight), so it is no reranker: give the folder of "
                "360Zhinao-1.8B-Reranking"
            )
        return (model, report) if output_loading_info else model

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

    def score(self, input_ids: torch.Tensor, attention_mask: torch.Tensor) -> torch.Tensor:
        """Scores (batch,) of whole prompts (batch, t), padded on the right; not passed through a sigmoid."""
        lengths = attention_mask.sum(dim=1)
        if (
            self.score_position == MEAN
        ):  # of scores, which is the score of the mean: the head is linear
            scores = self(input_ids, attention_mask) * attention_mask
            mean: torch.Tensor = scores.sum(dim=1) / lengths
            return mean
        read: torch.Tensor = self(
            input_ids, attention_mask, lengths - FROM_END[self.score_position]
        )
        return read


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
