"""Opens a folder of the generative 360Zhinao models, published or converted to Qwen2."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint.source import read_json
from models.device import Device
from models.torch_weights import fill, tensors
from pipeline.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

START, END, EOD = "<|im_start|>", "<|im_end|>", "<eod>"
_FUSED = ".self_attn.qkv_proj."
_SKIPPED = ("rotary_emb.inv_freq", "cos_cached", "sin_cached")


@dataclass(frozen=True)
class Words:
    """A folder's tokenizer. Control tokens in a text are ordinary characters here, never control."""

    tokenizer: Any  # a tokenizers.Tokenizer; that package ships no types
    folder: Path

    @classmethod
    def load(cls, folder: Path) -> "Words":
        """From `tokenizer.json`, else from `vocab/360.tiktoken`. Raises ModelUnavailable."""
        from tokenizers import Tokenizer

        from models.zhinao.tokenizer import load_tokenizer

        path = folder / "tokenizer.json"
        try:
            tokenizer = Tokenizer.from_file(str(path)) if path.is_file() else load_tokenizer(folder)
        except ModelUnavailable:
            raise
        except Exception as error:  # tokenizers raises nothing narrower
            raise ModelUnavailable(
                f"the tokenizer of {folder} cannot be read ({error}): download the model again with "
                "`zhinao models pull`."
            ) from error
        tokenizer.no_padding()
        tokenizer.no_truncation()
        tokenizer.encode_special_tokens = True
        return cls(tokenizer, folder)

    def ids(self, text: str) -> list[int]:
        """The ids of a text, nothing put before or after it."""
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids

    def control(self, token: str) -> int:
        """The id of a control token. Raises ModelUnavailable when this vocabulary has none."""
        number: int | None = self.tokenizer.token_to_id(token)
        if number is None:
            raise ModelUnavailable(
                f"the vocabulary in {self.folder} lacks {token}: it is not a chat model of the "
                "360Zhinao or Qwen2 kind."
            )
        return number

    def decode(self, ids: Sequence[int]) -> str:
        text: str = self.tokenizer.decode(list(ids), skip_special_tokens=True)
        return text

    @property
    def size(self) -> int:
        """Ids from here on are padding rows of the embedding matrix."""
        return max(map(int, self.tokenizer.get_vocab().values())) + 1


def config_of(folder: Path, architectures: Sequence[str]) -> dict[str, Any]:
    """The folder's config.json. Raises ModelUnavailable for another architecture and for int4."""
    options = read_json(folder / "config.json")
    path = folder / "config.json"
    if not set(architectures) & set(options.get("architectures") or []):
        raise ModelUnavailable(
            f"{path} is of {options.get('architectures')}, which does not fit here: give the folder "
            f"of a model of {' or '.join(architectures)}."
        )
    if options.get("quantization_config") or (folder / "quantize_config.json").is_file():
        raise ModelUnavailable(
            f"{folder} holds int4 weights, which run in vLLM only: serve it with `zhinao serve-model` "
            "and set its URL, or take the unquantised model."
        )
    return options


def qwen2(
    model_class: Any,  # noqa: ANN401  transformers ships no types
    options: Mapping[str, Any],
    weights: Mapping[str, "torch.Tensor"],
    *,
    folder: Path,
    device: Device,
) -> Any:  # noqa: ANN401
    """A Qwen2 class of transformers with a folder's weights, query, key and value split where fused."""
    from transformers import Qwen2Config

    known = {
        name: options[name]
        for name in (
            "vocab_size",
            "hidden_size",
            "intermediate_size",
            "num_hidden_layers",
            "num_attention_heads",
            "max_position_embeddings",
            "rms_norm_eps",
            "tie_word_embeddings",
            "hidden_act",
        )
        if options.get(name) is not None
    }
    heads = int(options["num_attention_heads"])
    kv_heads = int(options.get("num_key_value_heads") or heads)
    rope = options.get("rope_parameters") or {
        "rope_type": "default",
        "rope_theta": options.get("rope_theta") or 10000.0,
    }
    config = Qwen2Config(
        **known,
        num_key_value_heads=kv_heads,
        rope_parameters=rope,
        use_sliding_window=False,
        attention_dropout=0.0,
    )
    head_dim = int(options.get("head_dim") or int(options["hidden_size"]) // heads)
    try:
        separate = split(weights, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
    except ValueError as error:
        raise ModelUnavailable(
            f"the weights in {folder} do not fit its config.json: {error}. Download it again with "
            "`zhinao models pull`."
        ) from error
    return fill(model_class, config, separate, folder=folder, device=device)


def split(
    weights: Mapping[str, "torch.Tensor"], *, heads: int, kv_heads: int, head_dim: int
) -> dict[str, "torch.Tensor"]:
    """The same tensors with each fused `qkv_proj` as `q_proj`, `k_proj` and `v_proj`.

    Raises ValueError for rows that the sizes do not give.
    """
    from models.zhinao.qkv import split_qkv

    found: dict[str, torch.Tensor] = {}
    for name, tensor in weights.items():
        if name.endswith(_SKIPPED):
            continue
        if _FUSED not in name:
            found[name] = tensor
            continue
        parts = split_qkv(tensor, heads=heads, kv_heads=kv_heads, head_dim=head_dim)
        for part, own in zip("qkv", parts, strict=True):
            found[name.replace("qkv_proj", f"{part}_proj")] = own
    return found


def folder_tensors(folder: Path, *, lm_head: bool) -> dict[str, "torch.Tensor"]:
    """The folder's tensors, the rows that predict words only where they are wanted."""
    return tensors(folder, lambda name: lm_head or not name.startswith("lm_head."))


def generation_defaults(folder: Path, words: Words) -> tuple[frozenset[int], float]:
    """Stop ids, the vocabulary's own marks among them, and top_p."""
    path = folder / "generation_config.json"
    try:
        given = json.loads(path.read_text("utf-8")) if path.is_file() else {}
        stops = given.get("eos_token_id") or []
        top_p = float(given.get("top_p") or 1.0)
        own = {int(stop) for stop in (stops if isinstance(stops, list) else [stops])}
    except (OSError, ValueError, TypeError, AttributeError) as error:
        raise ModelUnavailable(
            f"{path} is not readable ({error}): download it again with `zhinao models pull`."
        ) from error
    marks = {words.control(START), words.control(END)}
    eod = words.tokenizer.token_to_id(EOD)
    return frozenset(own | marks | ({eod} if eod is not None else set())), top_p
