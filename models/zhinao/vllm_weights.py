"""What the vLLM plugin decides without vLLM: the names and parts of fused tensors, and the reranker's prompt."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

from models.zhinao.qkv import split_qkv

if TYPE_CHECKING:
    import torch

_OUTPUTS_A_WORD = 8
"""Columns of a GPTQ qzeros tensor hold eight outputs of 4 bits each."""


def split(name: str, tensor: "torch.Tensor", config: Any) -> "Iterator[tuple[str, torch.Tensor]]":  # noqa: ANN401
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
