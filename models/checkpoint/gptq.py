"""GPTQ tensors: what a checkpoint's two config dialects say, their shapes, unpacking and splitting.

For a linear layer with `in` inputs and `out` outputs, `b` bits and groups of `s` inputs
(Frantar et al. 2022, as AutoGPTQ stores it):

- qweight int32 [in*b/32, out]: 32/b codes of consecutive inputs in one word, lowest bits first;
- qzeros int32 [in/s, out*b/32]: 32/b zero points of consecutive outputs, each stored minus one;
- scales float [in/s, out]; g_idx int32 [in]: the group of each input.

weight[i, o] = scales[g_idx[i], o] * (code[i, o] - zero[g_idx[i], o]).
"""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from models.checkpoint.errors import UnknownCheckpoint

if TYPE_CHECKING:
    import torch

QUANTIZE_CONFIG = "quantize_config.json"
_WORD = 32


@dataclass(frozen=True, slots=True)
class Quantisation:
    """What is needed to read the tensors. A `group_size` of -1 is one group for all inputs.

    `act_order` says that g_idx is not ascending; `fields` is the plain config to write.
    """

    bits: int
    group_size: int
    act_order: bool
    fields: Mapping[str, object]

    @property
    def per_word(self) -> int:
        """Codes in one int32."""
        return _WORD // self.bits

    def groups(self, in_features: int) -> int:
        """Groups over this many inputs."""
        return 1 if self.group_size == -1 else -(-in_features // self.group_size)

    def shapes(self, out_features: int, in_features: int) -> dict[str, tuple[int, ...]]:
        """The shapes of the four tensors of a linear layer. Raises UnknownCheckpoint."""
        if in_features % self.per_word or out_features % self.per_word:
            raise UnknownCheckpoint(
                f"a layer of {in_features} inputs and {out_features} outputs cannot be packed into "
                f"words of {self.per_word} codes: config.json does not fit these weights."
            )
        groups = self.groups(in_features)
        return {
            "qweight": (in_features // self.per_word, out_features),
            "qzeros": (groups, out_features // self.per_word),
            "scales": (groups, out_features),
            "g_idx": (in_features,),
        }


def quantisation_of(
    config: Mapping[str, Any], quantize_config: Mapping[str, Any] | None, where: str
) -> Quantisation | None:
    """The quantisation of a checkpoint, or None for plain weights.

    Reads `quantization_config` of config.json (transformers, optimum) and quantize_config.json
    (AutoGPTQ); where there are both, they must agree. Raises UnknownCheckpoint for a method other
    than GPTQ, for bits other than 4 or 8, and for a layout of the zero points that is not known.
    """
    dialects = [
        one for one in (config.get("quantization_config"), quantize_config) if one is not None
    ]
    if not dialects:
        return None
    read = [_read(one, where) for one in dialects]
    first = read[0]
    for other in read[1:]:
        if (other.bits, other.group_size) != (first.bits, first.group_size):
            raise UnknownCheckpoint(
                f"config.json and {QUANTIZE_CONFIG} of {where} disagree on bits and group size "
                f"({first.bits}, {first.group_size} against {other.bits}, {other.group_size})."
            )
    return first


def unpack_rows(words: "torch.Tensor", bits: int) -> "torch.Tensor":
    """Codes [rows * 32/bits, columns] of int32 words [rows, columns], lowest bits first."""
    import torch

    shifts = torch.arange(0, _WORD, bits, dtype=torch.int32)
    codes = (words.unsqueeze(1) >> shifts.view(1, -1, 1)) & ((1 << bits) - 1)
    return codes.reshape(-1, words.shape[1])


def dequantise(
    qweight: "torch.Tensor",
    qzeros: "torch.Tensor",
    scales: "torch.Tensor",
    g_idx: "torch.Tensor",
    bits: int,
) -> "torch.Tensor":
    """The weight [out, in] in float32 of the four tensors (the formula of the module)."""
    codes = unpack_rows(qweight, bits)
    zeros = (unpack_rows(qzeros.t().contiguous(), bits).t() + 1) & ((1 << bits) - 1)
    group = g_idx.long()
    weight: torch.Tensor = scales.float()[group] * (codes - zeros[group]).float()
    return weight.t().contiguous()


def _read(fields: object, where: str) -> Quantisation:
    if not isinstance(fields, Mapping):
        raise UnknownCheckpoint(f"the quantisation of {where} is no table of settings.")
    method = fields.get("quant_method", "gptq")
    layout = fields.get("checkpoint_format", "gptq")
    bits, group_size = fields.get("bits"), fields.get("group_size")
    if method != "gptq" or layout != "gptq":
        raise UnknownCheckpoint(
            f"{where} is quantised as {method!r} in the layout {layout!r}: only GPTQ is converted."
        )
    if bits not in {4, 8}:
        raise UnknownCheckpoint(f"{where} has weights of {bits!r} bits: 4 or 8 are converted.")
    if not isinstance(group_size, int) or not (group_size == -1 or group_size > 0):
        raise UnknownCheckpoint(f"{where} has the group size {group_size!r}: -1 or more is known.")
    act_order = fields.get("desc_act") is True
    return Quantisation(
        bits=int(bits),
        group_size=group_size,
        act_order=act_order,
        fields={
            "quant_method": "gptq",
            "checkpoint_format": "gptq",
            "bits": bits,
            "group_size": group_size,
            "desc_act": act_order,
            "sym": fields.get("sym", True),
            "true_sequential": fields.get("true_sequential", True),
            "static_groups": fields.get("static_groups", False),
            "damp_percent": fields.get("damp_percent", 0.01),
        },
    )
