"""`tokenizer_class: ZhinaoTokenizer`: what AutoTokenizer makes of a published folder, without remote code."""

from pathlib import Path
from typing import Any

from transformers import AutoTokenizer, PreTrainedConfig, PreTrainedTokenizerFast

from models.zhinao.config import ZhinaoConfig
from models.zhinao.tokenizer import (
    DEFAULT_SYSTEM,
    VOCABULARY,
    build_tokenizer,
    chat_template,
    read_ranks,
)

_MARKS = {"eos_token": "<eod>", "pad_token": "<pad>", "unk_token": "<unk>"}


class ZhinaoTokenizer(PreTrainedTokenizerFast):  # type: ignore[misc]
    """The published vocabulary as a fast tokenizer, or the tokenizer.json that one was saved as.

    `model_max_length` is the context of the folder's config.json: the published tokenizer_config.json says
    4096 for the models of 32K and 360K tokens too. A folder without a chat template, as the first uploads,
    gets the one that the models were trained with. A control token in a text becomes a control token here,
    as in the published class; `models.zhinao.tokenizer.encode_chat` is for texts of users.
    """

    vocab_files_names = {"vocab_file": VOCABULARY.as_posix(), "tokenizer_file": "tokenizer.json"}  # noqa: RUF012
    model_input_names = ["input_ids", "attention_mask"]  # noqa: RUF012
    padding_side = "left"

    @classmethod
    def from_pretrained(cls, name: Any, *given: Any, **options: Any) -> Any:  # noqa: ANN401
        """As transformers' own. A `model_max_length` that the caller gives is kept.

        Raises ValueError, naming file and line, for a vocabulary that is not of the family.
        """
        if "model_max_length" not in options:
            context = _context(name, options)
            if context:
                options["model_max_length"] = context
        return super().from_pretrained(name, *given, **options)

    @classmethod
    def convert_to_native_format(cls, **options: Any) -> dict[str, Any]:  # noqa: ANN401
        """The step of loading at which transformers asks a class for its `tokenizers.Tokenizer`."""
        for mark, token in _MARKS.items():
            if options.get(mark) is None:
                options[mark] = token
        if options.get("chat_template") is None:
            options["chat_template"] = chat_template(DEFAULT_SYSTEM[2])
        vocabulary = options.pop("vocab_file", None)
        if options.get("tokenizer_file") is None and vocabulary is not None:
            options.pop("trust_remote_code", None)
            return options | {"tokenizer_object": build_tokenizer(read_ranks(Path(vocabulary)))}
        native: dict[str, Any] = super().convert_to_native_format(**options)
        return native


def _context(name: object, options: dict[str, Any]) -> int | None:
    """Tokens that config.json beside the vocabulary allows, or None where there is no such file."""
    where = ("revision", "cache_dir", "token", "local_files_only", "subfolder", "_commit_hash")
    try:
        found, _ = PreTrainedConfig.get_config_dict(
            name, **{key: options[key] for key in where if options.get(key) is not None}
        )
    except OSError:
        return None
    context = found.get("max_position_embeddings")
    return context if isinstance(context, int) else None


def register() -> None:
    """Make AutoTokenizer know `ZhinaoTokenizer`; a second call changes nothing."""
    AutoTokenizer.register(ZhinaoConfig, fast_tokenizer_class=ZhinaoTokenizer, exist_ok=True)
