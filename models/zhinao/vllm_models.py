"""The family's models for vLLM: upstream's Qwen2 and BERT, fed with weights under the names that they know.

Tensor and pipeline parallelism, LoRA, quantisation and prefix caching are upstream's. Imported by vLLM alone.
"""

from collections.abc import Iterable, Iterator
from typing import Any

import torch
from vllm.model_executor.models.bert import BertEmbeddingModel  # type: ignore[import-not-found]
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM  # type: ignore[import-not-found]

from models.zhinao.qkv import split_qkv

Weights = Iterable[tuple[str, torch.Tensor]]
_FUSED = ".self_attn.qkv_proj."
_UNUSED = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")
_OUTPUTS_A_WORD = 8
"""Columns of a GPTQ qzeros tensor hold eight outputs of 4 bits each."""


class ZhinaoForCausalLM(Qwen2ForCausalLM):  # type: ignore[misc]
    """Chat and Base models; with `--convert classify` the reranker, whose score head is called `linear`."""

    supports_score_template = True

    @classmethod
    def get_score_template(cls, query: str, document: str) -> str:
        """The reranker's prompt for vLLM's score endpoint, ending where the last token scores (notes: position A)."""
        return score_prompt(query, document)

    @classmethod
    def post_process_tokens(cls, prompt: object) -> None:
        """Nothing is left to do."""

    def load_weights(self, weights: Weights) -> set[str]:
        """Give upstream the split heads. Returns the names of the parameters that were loaded."""
        scores = hasattr(self, "score")
        loaded: set[str] = super().load_weights(self._renamed(weights, scores=scores))
        return loaded

    def _renamed(self, weights: Weights, *, scores: bool) -> Iterator[tuple[str, torch.Tensor]]:
        for name, tensor in weights:
            if name.endswith(_UNUSED):
                continue
            if _FUSED in name:
                yield from split(name, tensor, self.config)
            elif name.startswith("linear."):
                if not scores:
                    continue
                if name == "linear.bias":
                    self.score.bias = torch.nn.Parameter(tensor.to(self.score.weight))
                    self.score.skip_bias_add = False
                else:
                    yield "score.weight", tensor
            elif not (scores and name.startswith("lm_head.")):
                yield name, tensor


class TextEncoderModel(BertEmbeddingModel):  # type: ignore[misc]
    """360Zhinao-search: a BERT whose weights were saved from inside a wrapper, under `bert.`."""

    def load_weights(self, weights: Weights) -> set[str]:
        """Give upstream the names without the prefix. Returns the names of the parameters that were loaded."""
        loaded: set[str] = super().load_weights(
            (name.removeprefix("bert."), tensor) for name, tensor in weights
        )
        return loaded


def split(name: str, tensor: torch.Tensor, config: Any) -> Iterator[tuple[str, torch.Tensor]]:  # noqa: ANN401
    """A fused tensor's three parts under upstream's names.

    Weights and biases hold outputs as rows; GPTQ's qweight [in / 8, out], scales [in / group, out] and qzeros
    [in / group, out / 8] hold them as columns, and its g_idx [in] is the same for all three.
    """
    heads, kv_heads = config.num_attention_heads, config.num_key_value_heads
    head_dim = getattr(config, "head_dim", None) or config.hidden_size // heads
    kind = name.rsplit(".", 1)[1]
    if kind == "g_idx":
        parts: tuple[torch.Tensor, ...] = (tensor, tensor, tensor)
    elif kind in {"weight", "bias"}:
        parts = split_qkv(tensor, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    else:
        width = head_dim // _OUTPUTS_A_WORD if kind == "qzeros" else head_dim
        columns = split_qkv(tensor.t().contiguous(), heads=heads, kv_heads=kv_heads, head_dim=width)
        parts = tuple(part.t().contiguous() for part in columns)
    for letter, part in zip("qkv", parts, strict=True):
        yield name.replace("qkv_proj", f"{letter}_proj"), part


def score_prompt(query: str, document: str) -> str:
    """The reranker's inference prompt up to the assistant's turn, with an empty system turn.

    vLLM tokenises one string, so that a control token in the texts is broken up by a space.
    """
    text = f"{query}\n\n{document}".replace("<|im_", "<| im_").replace("<eod>", "< eod>")
    return f"<|im_start|>system\n<|im_end|>\n<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n"
