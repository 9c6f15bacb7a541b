"""The part of a source tensor that a target tensor is."""

from typing import TYPE_CHECKING

from models.checkpoint.gptq import Quantisation
from models.checkpoint.plan import Geometry, Part, Piece

if TYPE_CHECKING:
    import torch


def part_of(
    tensor: "torch.Tensor",
    piece: Piece,
    geometry: Geometry | None,
    quantisation: Quantisation | None,
) -> "torch.Tensor":
    """The tensor as it is, or its query, key or value heads.

    Rows are split for a plain weight or bias, columns for qweight, scales and qzeros. Columns of
    qzeros hold several outputs each, and a head is a whole number of them, so nothing is repacked.
    """
    if piece.part is Part.WHOLE:
        return tensor
    assert geometry is not None
    kind = piece.source.rsplit(".", 1)[1]
    if kind in {"weight", "bias"}:
        return split_rows(tensor, geometry)[piece.part]
    assert quantisation is not None
    packed = quantisation.per_word if kind == "qzeros" else 1
    rows = tensor.t().contiguous()
    return split_rows(rows, geometry, packed=packed)[piece.part].t().contiguous()


def split_rows(
    tensor: "torch.Tensor", geometry: Geometry, *, packed: int = 1
) -> dict[Part, "torch.Tensor"]:
    """The query, key and value rows of a fused tensor [(heads + 2 * kv_heads) * head_dim, ...].

    `packed` outputs lie in each row.
    """
    from models.zhinao.qkv import split_qkv

    q, k, v = split_qkv(
        tensor,
        heads=geometry.heads,
        kv_heads=geometry.kv_heads,
        head_dim=geometry.head_dim // packed,
    )
    return {Part.Q: q, Part.K: k, Part.V: v}
