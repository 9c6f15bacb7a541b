"""The published models: what their config files say, and what follows for memory.

Sources: the config files and READMEs of the repositories; numbers of parameters agree with the sizes of the
published files. What no file was seen for is None, and is read from the folder.
"""

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum

from models.zhinao.vocabulary import ROWS


class Kind(StrEnum):
    BASE = "base"
    CHAT = "chat"
    RERANK = "rerank"
    EMBED = "embed"


class Terms(StrEnum):
    """Whose licence the weights are under."""

    ZHINAO_V1 = "360zhinao-v1"
    """Free for non-commercial use; commercial use after an application by e-mail."""
    APACHE = "apache-2.0"
    LLAMA3 = "llama3"


@dataclass(frozen=True, slots=True)
class Shape:
    """The sizes that count parameters and cache."""

    hidden: int
    layers: int
    heads: int
    kv_heads: int
    intermediate: int
    vocabulary: int = ROWS
    qkv_bias: bool = True

    @property
    def parameters(self) -> int:
        """Of a causal model: embedding and untied head, and in each layer attention, MLP and two norms."""
        head_dim = self.hidden // self.heads
        fused = (self.heads + 2 * self.kv_heads) * head_dim
        attention = fused * self.hidden + fused * self.qkv_bias + self.hidden * self.hidden
        layer = attention + 3 * self.hidden * self.intermediate + 2 * self.hidden
        return 2 * self.vocabulary * self.hidden + self.layers * layer + self.hidden

    @property
    def kv_bytes_per_token(self) -> int:
        """Keys and values of one token in a 16-bit cache."""
        return 2 * self.layers * self.kv_heads * (self.hidden // self.heads) * 2

    @property
    def linear_parameters(self) -> int:
        """Weights of the projections, which int4 files hold in four bits."""
        head_dim = self.hidden // self.heads
        attention = (self.heads + 2 * self.kv_heads) * head_dim + self.hidden
        return self.layers * self.hidden * (attention + 3 * self.intermediate)


@dataclass(frozen=True, slots=True)
class KnownModel:
    """A published model. `context` counts tokens; `weight_bytes` is what the weights take in memory."""

    name: str
    kind: Kind
    generation: int
    context: int | None
    terms: Terms
    weight_bytes: int
    shape: Shape | None = None
    rope_theta: float | None = None
    bits: int = 16
    repositories: Mapping[str, str] = field(default_factory=dict)
    """By hub: `huggingface` and `modelscope`."""

    @property
    def kv_bytes_per_token(self) -> int:
        """0 for a model without a cache."""
        return self.shape.kv_bytes_per_token if self.shape else 0


V1 = Shape(hidden=4096, layers=32, heads=32, kv_heads=32, intermediate=11008)
V2 = Shape(hidden=4096, layers=32, heads=32, kv_heads=8, intermediate=13056)
RERANKER = Shape(hidden=2048, layers=24, heads=16, kv_heads=16, intermediate=5632)
LLAMA3 = Shape(
    hidden=4096, layers=32, heads=32, kv_heads=8, intermediate=14336, vocabulary=128256, qkv_bias=False
)  # fmt: skip
SEARCH_PARAMETERS = 325_522_432
"""BERT-large with 21,128 word pieces, two segment types and a pooler."""
_GROUP = 128


def known_models() -> tuple[KnownModel, ...]:
    """Every model of the family, oldest first."""
    return (*_first(), *_second(), *_third(), *_others())


def known(name: str) -> KnownModel | None:
    """The model of this name (case aside, an owner before it allowed)."""
    bare = name.rsplit("/", 1)[-1].casefold()
    return next((model for model in known_models() if model.name.casefold() == bare), None)


def int4_bytes(shape: Shape) -> int:
    """GPTQ with groups of 128: four bits a projection weight, a 16-bit scale and a 4-bit zero a group; the rest 16."""
    linear = shape.linear_parameters
    return linear // 2 + linear * 20 // (8 * _GROUP) + 2 * (shape.parameters - linear)


def _first() -> list[KnownModel]:
    rows = [
        ("360Zhinao-7B-Base", Kind.BASE, 4096, 1e4),
        ("360Zhinao-7B-Chat-4K", Kind.CHAT, 4096, 1e4),
        ("360Zhinao-7B-Chat-32K", Kind.CHAT, 32768, 5e7),
        ("360Zhinao-7B-Chat-360K", Kind.CHAT, 360_000, 5e7),
    ]
    return _generation(1, V1, Terms.ZHINAO_V1, rows, owner="qihoo360")


def _second() -> list[KnownModel]:
    rows = [
        ("360Zhinao2-7B-Base", Kind.BASE, 4096, 1e4),
        ("360Zhinao2-7B-Chat-4K", Kind.CHAT, 4096, 1e4),
        ("360Zhinao2-7B-Chat-32K", Kind.CHAT, 36_000, 1e6),
        ("360Zhinao2-7B-Chat-360K", Kind.CHAT, 365_000, 5e7),
    ]
    return _generation(2, V2, Terms.APACHE, rows, owner="360zhinao")


def _third() -> list[KnownModel]:
    names = (
        ("360Zhinao3-7B", Kind.BASE),
        ("360Zhinao3-7B-Instruct", Kind.CHAT),
        ("360Zhinao3-7B-O1.5", Kind.CHAT),
    )
    return [
        KnownModel(
            name, kind, 3, None, Terms.APACHE, 2 * V2.parameters, V2,
            repositories=_repositories(name, "360zhinao"),
        )
        for name, kind in names
    ]  # fmt: skip


def _others() -> list[KnownModel]:
    search, reranking, llama = (
        "360Zhinao-search",
        "360Zhinao-1.8B-Reranking",
        "llama3-8B-360Zhinao-360k-Instruct",
    )
    head = RERANKER.vocabulary * RERANKER.hidden
    return [
        KnownModel(
            search, Kind.EMBED, 1, 512, Terms.ZHINAO_V1, 2 * SEARCH_PARAMETERS,
            repositories=_repositories(search, "qihoo360"),
        ),
        KnownModel(
            reranking, Kind.RERANK, 1, 4096, Terms.ZHINAO_V1, 2 * (RERANKER.parameters - head), RERANKER, 1e4,
            repositories=_repositories(reranking, "qihoo360"),
        ),
        KnownModel(
            llama, Kind.CHAT, 1, 360_000, Terms.LLAMA3, 2 * LLAMA3.parameters, LLAMA3, 5e8,
            repositories=_repositories(llama, "qihoo360"),
        ),
    ]  # fmt: skip


def _generation(
    number: int,
    shape: Shape,
    terms: Terms,
    rows: list[tuple[str, Kind, int, float]],
    *,
    owner: str,
) -> list[KnownModel]:
    full = [
        KnownModel(
            name, kind, number, context, terms, 2 * shape.parameters, shape, theta,
            repositories=_repositories(name, owner),
        )
        for name, kind, context, theta in rows
    ]  # fmt: skip
    quantised = [
        KnownModel(
            f"{name}-Int4", kind, number, context, terms, int4_bytes(shape), shape, theta, bits=4,
            repositories=_repositories(f"{name}-Int4", owner),
        )
        for name, kind, context, theta in rows
        if kind is Kind.CHAT
    ]  # fmt: skip
    return full + quantised


def _repositories(name: str, owner: str) -> dict[str, str]:
    return {"huggingface": f"qihoo360/{name}", "modelscope": f"{owner}/{name}"}
