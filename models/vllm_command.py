"""The `vllm serve` command of a checkpoint: how much context fits on the GPUs at hand, and every option it needs.

Only the standard library is used, so that it also runs in vLLM's own image:
`python -m models.vllm_serve chat /models/360Zhinao-7B-Chat-360K`.
"""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from pipeline.errors import InvalidInput, ModelUnavailable, TooLarge

Role = Literal["chat", "embed", "rerank"]
ROLES: tuple[Role, ...] = get_args(Role)
GIB = 2**30
BLOCK = 16
"""Tokens of a block of vLLM's KV cache; a context is a whole number of them."""
RESERVE = 2 * GIB
"""Bytes a GPU that are neither weights nor KV cache: CUDA's own, activations of a prefill chunk, graphs, logits."""
LEAST = {"chat": 2048, "rerank": 1024, "embed": 128}
"""Below this context, in tokens, serving is pointless, and the command says so instead."""
_BYTES = {"float32": 4, "float": 4, "float16": 2, "half": 2, "bfloat16": 2}
_MODELS = {
    "chat": {"ZhinaoForCausalLM", "Qwen2ForCausalLM", "LlamaForCausalLM"},
    "rerank": {"ZhinaoForCausalLM", "Qwen2ForSequenceClassification"},
    "embed": {"TextEncoderModel", "BertModel"},
}


@dataclass(frozen=True, slots=True)
class Shape:
    """What a checkpoint's config.json says about memory. `value_bytes` is the size of one cached number."""

    architecture: str
    layers: int
    heads: int
    kv_heads: int
    head_dim: int
    context: int
    value_bytes: int
    causal: bool


@dataclass(frozen=True, slots=True)
class Plan:
    """What fits. `kv_token_bytes` are the bytes of one token on one GPU, `cached_tokens` what all requests share."""

    role: Role
    max_model_len: int
    tensor_parallel: int
    utilisation: float
    kv_token_bytes: int
    cached_tokens: int


def shape(config: Mapping[str, Any]) -> Shape:
    """Read a config.json. Raises InvalidInput that names the entry which is missing or wrong.

    >>> shape({"architectures": ["ZhinaoForCausalLM"], "num_hidden_layers": 32, "num_attention_heads": 32,
    ...        "hidden_size": 4096, "max_position_embeddings": 360000, "torch_dtype": "bfloat16"}).kv_heads
    32
    """
    names = config.get("architectures")
    if not isinstance(names, list) or not names or not isinstance(names[0], str):
        raise InvalidInput("config.json names no architecture: it is no checkpoint's configuration")
    heads = _number(config, "num_attention_heads")
    hidden = _number(config, "hidden_size")
    if hidden % heads:
        raise InvalidInput(f"config.json has {heads} heads for a width of {hidden}: it is damaged")
    head_dim = _number(config, "head_dim", hidden // heads)
    kv_heads = _number(config, "num_key_value_heads", heads)
    if heads % kv_heads:
        raise InvalidInput(f"config.json has {kv_heads} key heads for {heads} heads: it is damaged")
    kind = str(config.get("dtype") or config.get("torch_dtype") or "bfloat16")
    if kind not in _BYTES:
        raise InvalidInput(
            f'config.json has the number type "{kind}": {", ".join(_BYTES)} are known'
        )
    return Shape(
        names[0],
        _number(config, "num_hidden_layers"),
        heads,
        kv_heads,
        head_dim,
        _number(config, "max_position_embeddings"),
        _BYTES[kind],
        names[0] not in _MODELS["embed"],
    )


def kv_bytes(layers: int, kv_heads: int, head_dim: int, value_bytes: int = 2) -> int:
    """Bytes of KV cache a token: one key and one value a layer and key head (Kwon et al. 2023, section 3).

    >>> [kv_bytes(*of) // 1024 for of in ((32, 32, 128), (32, 8, 128), (24, 16, 128))]  # v1, v2/v3, reranker
    [512, 128, 192]
    """
    return 2 * layers * kv_heads * head_dim * value_bytes


def parallel(model: Shape, gpus: int) -> int:
    """The most GPUs, at most `gpus`, that the heads can be shared out to: vLLM wants whole heads on each GPU."""
    return max(
        size
        for size in range(1, gpus + 1)
        if model.heads % size == 0 and (model.kv_heads % size == 0 or size % model.kv_heads == 0)
    )


def plan(
    config: Mapping[str, Any],
    gpu_bytes: int,
    gpus: int,
    *,
    weights_bytes: int,
    role: Role = "chat",
    utilisation: float = 0.9,
    wanted: int | None = None,
) -> Plan:
    """The longest context that fits, up to the model's own or `wanted`, in tokens.

    `gpu_bytes` is the memory of the smallest GPU, `weights_bytes` the size of the weights' files. Raises TooLarge when
    `wanted` is more than the model reads or the memory holds, ModelUnavailable when no useful context fits at all.
    """
    model = shape(config)
    if model.architecture not in _MODELS[role]:
        raise InvalidInput(
            f'a "{model.architecture}" does not serve as {role}: {", ".join(sorted(_MODELS[role]))} do'
        )
    if gpus < 1 or gpu_bytes < 1 or not 0 < utilisation <= 1:
        raise InvalidInput("a plan needs at least one GPU with memory, and a share of it up to 1")
    if wanted is not None and wanted > model.context:
        raise TooLarge(
            f"a context of {wanted} tokens was asked for, and the model reads {model.context}: ask for less"
        )
    if wanted is not None and wanted < 1:
        raise InvalidInput(f"a context of {wanted} tokens was asked for: it must be positive")
    size = parallel(model, gpus)
    room = int(utilisation * gpu_bytes) - RESERVE - -(-weights_bytes // size)
    # More GPUs than key heads hold copies of them.
    token = (
        kv_bytes(model.layers, -(-model.kv_heads // size), model.head_dim, model.value_bytes)
        if model.causal
        else 0
    )
    least = min(LEAST[role], model.context, wanted or model.context)
    if room < max(1, least * token):
        need = (RESERVE - (-weights_bytes // size) + least * token) / utilisation
        raise ModelUnavailable(
            f"the model does not fit: {size} × {need / GIB:.1f} GiB of GPU memory are needed for {least} tokens, and "
            f"there are {size} × {gpu_bytes / GIB:.1f} GiB: take more or larger GPUs, an int4 checkpoint or a model "
            "with less KV cache"
        )
    cached = room // token // BLOCK * BLOCK if token else model.context
    length = min(model.context, cached)
    if wanted is not None:
        if wanted > length:
            raise TooLarge(
                f"a context of {wanted} tokens was asked for, and {length} fit into the memory of {size} GPUs: "
                "ask for less, or take more GPUs"
            )
        length = wanted
    return Plan(role, length, size, utilisation, token, cached)


def command(
    fits: Plan, folder: Path, *, name: str, host: str = "127.0.0.1", port: int = 8001
) -> list[str]:
    """The arguments of `vllm serve`, vLLM 0.32, one element each.

    Stop ids come from the folder's generation_config.json, the chat template from its tokenizer.
    """
    words = [
        *("vllm", "serve", str(folder), "--served-model-name", name),
        *("--host", host, "--port", str(port)),
        *("--max-model-len", str(fits.max_model_len)),
        *("--tensor-parallel-size", str(fits.tensor_parallel)),
        *("--gpu-memory-utilization", f"{fits.utilisation:g}"),
    ]
    match fits.role:
        case "chat":
            words += ["--generation-config", "auto", "--enable-prompt-tokens-details"]
        case "rerank":
            pooler = {"seq_pooling_type": "LAST", "use_activation": False}
            words += ["--runner", "pooling", "--convert", "classify"]
            words += ["--hf-overrides", json.dumps({"num_labels": 1})]
            words += ["--pooler-config", json.dumps(pooler)]
        case "embed":
            words += ["--runner", "pooling"]
            words += ["--pooler-config", json.dumps({"seq_pooling_type": "CLS"})]
    return words


def weights(folder: Path) -> int:
    """Bytes of the folder's weights, as vLLM chooses them: safetensors, else PyTorch's .bin files."""
    for pattern in ("*.safetensors", "pytorch_model*.bin"):
        sizes = [path.stat().st_size for path in folder.glob(pattern)]
        if sizes:
            return sum(sizes)
    raise InvalidInput(f"{folder} holds no weights: run `zhinao models pull` for it first")


def configuration(folder: Path) -> dict[str, Any]:
    """The folder's config.json. Raises InvalidInput that names the file."""
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text("utf-8"))
    except OSError as error:
        raise InvalidInput(
            f"{path} cannot be read ({error.strerror}): is the folder right?"
        ) from error
    except ValueError as error:
        raise InvalidInput(f"{path} is no JSON: fetch the model again") from error
    if not isinstance(config, dict):
        raise InvalidInput(f"{path} is no configuration: fetch the model again")
    return config


def _number(config: Mapping[str, Any], key: str, default: int | None = None) -> int:
    value = config.get(key)
    if value is None:
        value = default
    if not isinstance(value, int) or isinstance(value, bool) or value < 1:
        raise InvalidInput(f"config.json has {key} {value!r}: a positive number is needed")
    return value
