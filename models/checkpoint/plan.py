"""Decides, without reading weights, which tensor of a source becomes which of the plain folder.

Layouts: models.zhinao's fused Qwen2 (`qkv_proj` per layer, gate and up apart), its GPTQ form, the
reranker (the same and `linear`), and BERT behind the prefix `bert.`.
"""

import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any

from models.checkpoint.errors import DamagedCheckpoint, UnknownCheckpoint
from models.checkpoint.gptq import Quantisation
from models.checkpoint.source import AGAIN, Stored
from models.checkpoint.writer import Entry

Shape = tuple[int, ...]
_BUFFERS = re.compile(r"rotary_emb\.(inv_freq|cos_cached|sin_cached)$|embeddings\.position_ids$")


class Kind(Enum):
    """What a checkpoint is for."""

    CHAT = "chat"
    RERANK = "rerank"
    EMBED = "embed"


class Part(Enum):
    """Which part of its source tensor a target is; rows of a weight, columns of GPTQ tensors."""

    WHOLE = "whole"
    Q = "q"
    K = "k"
    V = "v"


@dataclass(frozen=True, slots=True)
class Geometry:
    """The sizes that fix the shapes of a decoder."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    intermediate: int
    vocab: int
    tied: bool

    @property
    def query(self) -> int:
        return self.heads * self.head_dim

    @property
    def key(self) -> int:
        return self.kv_heads * self.head_dim


@dataclass(frozen=True, slots=True)
class Piece:
    """One tensor to write: a part of one tensor of the source."""

    target: Entry
    source: str
    file: str
    part: Part


@dataclass(frozen=True, slots=True)
class Want:
    """What a source tensor must look like and what it becomes; nothing for one that is dropped."""

    shape: Shape
    targets: tuple[tuple[str, Part, Shape], ...]
    integer: bool = False
    optional: bool = False


def kind_of(config: Mapping[str, Any], names: Iterable[str], where: str) -> Kind:
    """Chat, rerank or embed. Raises UnknownCheckpoint for any other architecture."""
    model_type = config.get("model_type")
    architectures = config.get("architectures") or []
    if model_type == "bert" and set(architectures) <= {"TextEncoderModel", "BertModel"}:
        return Kind.EMBED
    if model_type == "zhinao":
        return Kind.RERANK if "linear.weight" in set(names) else Kind.CHAT
    if model_type in {"qwen2", "llama"}:
        raise UnknownCheckpoint(
            f"{where} is a plain {model_type} checkpoint already: it needs no conversion."
        )
    raise UnknownCheckpoint(
        f"{where} has the model type {model_type!r} ({', '.join(map(str, architectures)) or '-'}): "
        "only checkpoints of the 360Zhinao family are converted."
    )


def geometry_of(config: Mapping[str, Any], where: str) -> Geometry:
    """The sizes in a config.json. Raises UnknownCheckpoint for sizes that do not fit together."""
    names = (
        "hidden_size", "num_hidden_layers", "num_attention_heads", "intermediate_size", "vocab_size",
    )  # fmt: skip
    hidden, layers, heads, intermediate, vocab = (_size(config, name, where) for name in names)
    kv_heads = (
        heads
        if config.get("num_key_value_heads") is None
        else _size(config, "num_key_value_heads", where)
    )
    if heads % kv_heads or (not config.get("head_dim") and hidden % heads):
        raise UnknownCheckpoint(
            f"{where}: {heads} heads, {kv_heads} KV heads and width {hidden} do not fit together."
        )
    head_dim = _size(config, "head_dim", where) if config.get("head_dim") else hidden // heads
    tied = config.get("tie_word_embeddings") is True
    return Geometry(hidden, layers, heads, kv_heads, head_dim, intermediate, vocab, tied)


def wanted(
    kind: Kind, config: Mapping[str, Any], quantisation: Quantisation | None, where: str
) -> dict[str, Want]:
    """Every tensor that a checkpoint of this config has, by its published name."""
    if kind is Kind.EMBED:
        return _bert(config, where)
    g = geometry_of(config, where)
    wants = {
        "model.embed_tokens.weight": _kept("model.embed_tokens.weight", (g.vocab, g.hidden)),
        "model.norm.weight": _kept("model.norm.weight", (g.hidden,)),
    }
    if kind is Kind.RERANK:
        wants["lm_head.weight"] = Want((g.vocab, g.hidden), (), optional=True)
        wants["linear.weight"] = Want((1, g.hidden), (("score.weight", Part.WHOLE, (1, g.hidden)),))
        wants["linear.bias"] = Want((1,), (), optional=True)
    elif g.tied:
        wants["lm_head.weight"] = Want((g.vocab, g.hidden), (), optional=True)
    else:
        wants["lm_head.weight"] = _kept("lm_head.weight", (g.vocab, g.hidden))
    for layer in range(g.layers):
        wants |= _layer(f"model.layers.{layer}", g, quantisation)
    return wants


def plan(
    stored: Sequence[Stored], wants: Mapping[str, Want], where: str, *, prefix: str = ""
) -> list[Piece]:
    """The tensors to write, in the order in which the source stores them.

    `prefix` is stripped from stored names where it is there. Raises UnknownCheckpoint for a tensor
    that nothing is known about or of another shape, DamagedCheckpoint for one that is missing.
    """
    pieces: list[Piece] = []
    seen: set[str] = set()
    for one in stored:
        name = one.entry.name.removeprefix(prefix)
        if _BUFFERS.search(name):
            continue
        want = wants.get(name)
        if want is None:
            raise UnknownCheckpoint(
                f"{one.file} of {where} holds the tensor {one.entry.name}, which no known "
                "checkpoint has: it is not converted, since leaving it out could be wrong."
            )
        _fits(one, want, where)
        seen.add(name)
        pieces += [
            Piece(Entry(target, one.entry.dtype, shape), one.entry.name, one.file, part)
            for target, part, shape in want.targets
        ]
    missing = [name for name, want in wants.items() if not want.optional and name not in seen]
    if missing:
        raise DamagedCheckpoint(
            f"{where} lacks {len(missing)} tensors, the first is {prefix}{missing[0]}: {AGAIN}."
        )
    return pieces


def pack(pieces: Sequence[Piece], limit: int) -> list[list[Piece]]:
    """Cut into shards of at most `limit` bytes; a shard holds parts of one source file only.

    The parts of one source tensor stay together, and a tensor over the limit has its own shard.
    """
    groups: list[list[Piece]] = []
    for piece in pieces:
        if groups and groups[-1][0].source == piece.source:
            groups[-1].append(piece)
        else:
            groups.append([piece])
    shards: list[list[Piece]] = []
    room = 0
    for group in groups:
        size = sum(piece.target.bytes for piece in group)
        if not shards or shards[-1][0].file != group[0].file or size > room:
            shards.append([])
            room = limit
        shards[-1] += group
        room -= size
    return shards


def _layer(at: str, g: Geometry, quantisation: Quantisation | None) -> dict[str, Want]:
    wants = {
        f"{at}.{norm}.weight": _kept(f"{at}.{norm}.weight", (g.hidden,))
        for norm in ("input_layernorm", "post_attention_layernorm")
    }
    rows = g.query + 2 * g.key
    qkv = f"{at}.self_attn.qkv_proj"
    parts = ((Part.Q, g.query), (Part.K, g.key), (Part.V, g.key))
    split = [(f"{at}.self_attn.{part.value}_proj", part, size) for part, size in parts]
    wants[f"{qkv}.bias"] = Want(
        (rows,), tuple((f"{name}.bias", part, (size,)) for name, part, size in split)
    )
    plain = {
        f"{at}.self_attn.o_proj": (g.hidden, g.query),
        f"{at}.mlp.gate_proj": (g.intermediate, g.hidden),
        f"{at}.mlp.up_proj": (g.intermediate, g.hidden),
        f"{at}.mlp.down_proj": (g.hidden, g.intermediate),
    }
    if quantisation is None:
        wants[f"{qkv}.weight"] = Want(
            (rows, g.hidden),
            tuple((f"{name}.weight", part, (size, g.hidden)) for name, part, size in split),
        )
        wants |= {f"{name}.weight": _kept(f"{name}.weight", shape) for name, shape in plain.items()}
        return wants
    for tensor, shape in quantisation.shapes(rows, g.hidden).items():
        targets = tuple(
            (f"{name}.{tensor}", part if tensor != "g_idx" else Part.WHOLE, out[tensor])
            for name, part, size in split
            for out in (quantisation.shapes(size, g.hidden),)
        )
        wants[f"{qkv}.{tensor}"] = Want(shape, targets, integer=tensor != "scales")
    for name, (out_features, in_features) in plain.items():
        for tensor, shape in quantisation.shapes(out_features, in_features).items():
            target = ((f"{name}.{tensor}", Part.WHOLE, shape),)
            wants[f"{name}.{tensor}"] = Want(shape, target, integer=tensor != "scales")
        # AutoGPTQ may add a bias of zeros to every layer; convert.py checks that it is zero.
        wants[f"{name}.bias"] = Want((out_features,), (), optional=True)
    return wants


def _bert(config: Mapping[str, Any], where: str) -> dict[str, Want]:
    names = (
        "hidden_size", "num_hidden_layers", "intermediate_size", "vocab_size",
        "max_position_embeddings", "type_vocab_size",
    )  # fmt: skip
    h, layers, inner, vocab, positions, types = (_size(config, name, where) for name in names)
    shapes: dict[str, Shape] = {
        "embeddings.word_embeddings.weight": (vocab, h),
        "embeddings.position_embeddings.weight": (positions, h),
        "embeddings.token_type_embeddings.weight": (types, h),
        "embeddings.LayerNorm.weight": (h,),
        "embeddings.LayerNorm.bias": (h,),
    }
    for layer in range(layers):
        at = f"encoder.layer.{layer}"
        for name, rows, columns in (
            ("attention.self.query", h, h),
            ("attention.self.key", h, h),
            ("attention.self.value", h, h),
            ("attention.output.dense", h, h),
            ("intermediate.dense", inner, h),
            ("output.dense", h, inner),
        ):
            shapes[f"{at}.{name}.weight"] = (rows, columns)
            shapes[f"{at}.{name}.bias"] = (rows,)
        for name in ("attention.output.LayerNorm", "output.LayerNorm"):
            shapes[f"{at}.{name}.weight"] = (h,)
            shapes[f"{at}.{name}.bias"] = (h,)
    wants = {name: _kept(name, shape) for name, shape in shapes.items()}
    pooler: dict[str, Shape] = {"pooler.dense.weight": (h, h), "pooler.dense.bias": (h,)}
    for name, shape in pooler.items():
        wants[name] = Want(shape, ((name, Part.WHOLE, shape),), optional=True)
    return wants


def _kept(name: str, shape: Shape) -> Want:
    return Want(shape, ((name, Part.WHOLE, shape),))


def _fits(one: Stored, want: Want, where: str) -> None:
    entry = one.entry
    if entry.shape != want.shape:
        raise UnknownCheckpoint(
            f"the tensor {entry.name} in {one.file} of {where} has the shape {list(entry.shape)}; "
            f"its config.json asks for {list(want.shape)}: the two do not belong together."
        )
    allowed = {"I32"} if want.integer else {"BF16", "F16", "F32"}
    if entry.dtype not in allowed:
        raise UnknownCheckpoint(
            f"the tensor {entry.name} in {one.file} of {where} has the dtype {entry.dtype}; "
            f"{' or '.join(sorted(allowed))} is known."
        )


def _size(config: Mapping[str, Any], name: str, where: str) -> int:
    value = config.get(name)
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise UnknownCheckpoint(f"config.json of {where} has {name} {value!r}: a size is needed.")
    return value
