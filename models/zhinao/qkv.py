"""The published attention projection: one fused matrix whose rows are grouped by key/value head."""

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch


def split_qkv(
    fused: "torch.Tensor", *, heads: int, kv_heads: int, head_dim: int
) -> "tuple[torch.Tensor, torch.Tensor, torch.Tensor]":
    """Query (heads * head_dim, ...), key and value (kv_heads * head_dim, ...) rows of a fused weight or bias.

    The rows lie as [kv_heads, heads / kv_heads + 2, head_dim]: a group's query heads, its key head, its value
    head. A contiguous cut into thirds also runs, and gives garbage. Raises ValueError for another row count.
    """
    group = heads // kv_heads
    if heads % kv_heads or fused.shape[0] != (heads + 2 * kv_heads) * head_dim:
        raise ValueError(
            f"a fused projection of {heads} heads and {kv_heads} key/value heads of {head_dim} has "
            f"{(heads + 2 * kv_heads) * head_dim} rows, and this one has {fused.shape[0]}"
        )
    rest = fused.shape[1:]
    grouped = fused.reshape(kv_heads, group + 2, head_dim, *rest)
    return (
        grouped[:, :group].reshape(-1, *rest).contiguous(),
        grouped[:, group].reshape(-1, *rest).contiguous(),
        grouped[:, group + 1].reshape(-1, *rest).contiguous(),
    )


def fuse_qkv(
    query: "torch.Tensor", key: "torch.Tensor", value: "torch.Tensor", *, kv_heads: int
) -> "torch.Tensor":
    """The fused rows that `split_qkv` takes apart."""
    import torch

    rest = query.shape[1:]
    head_dim = key.shape[0] // kv_heads
    grouped = [
        query.reshape(kv_heads, -1, head_dim, *rest),
        key.reshape(kv_heads, 1, head_dim, *rest),
        value.reshape(kv_heads, 1, head_dim, *rest),
    ]
    return torch.cat(grouped, dim=1).reshape(-1, *rest).contiguous()
