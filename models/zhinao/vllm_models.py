"""The family's models for vLLM: upstream's Qwen2 and BERT, fed with weights under the names that they know.

Tensor and pipeline parallelism, LoRA, quantisation and prefix caching are upstream's. Imported by vLLM alone.
"""

from collections.abc import Iterable, Iterator

import torch
from vllm.model_executor.models.bert import BertEmbeddingModel  # type: ignore[import-not-found]
from vllm.model_executor.models.qwen2 import Qwen2ForCausalLM  # type: ignore[import-not-found]

from models.zhinao.vllm_weights import score_prompt, split

Weights = Iterable[tuple[str, torch.Tensor]]
_FUSED = ".self_attn.qkv_proj."
_UNUSED = ("rotary_emb.inv_freq", "rotary_emb.cos_cached", "rotary_emb.sin_cached")


class ZhinaoForCausalLM(Qwen2ForCausalLM):  # type: ignore[misc]
    """Chat and Base models; with `--convert classify` the reranker, whose score head is called `linear`."""

    supports_score_template = True

    @classmethod
    def get_score_template(cls, query: str, document: str) -> str:
        """The reranker's prompt for vLLM's score endpoint, read at its last token."""
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
