"""The small files of a converted folder: config, generation defaults, tokenizer, pooling, licence."""

import json
import shutil
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from models.checkpoint.configs import bert_config, generation_config, qwen2_config
from models.checkpoint.errors import DamagedCheckpoint
from models.checkpoint.gptq import QUANTIZE_CONFIG, Quantisation
from models.checkpoint.manifest import write_text
from models.checkpoint.plan import Geometry, Kind
from models.checkpoint.pull import LICENCE
from models.checkpoint.source import AGAIN, read_json
from models.torch_weights import quiet

VOCABULARY = "vocab/360.tiktoken"
SIDECAR_SOURCES = (
    "config.json", "generation_config.json", QUANTIZE_CONFIG, "tokenizer_config.json",
    "special_tokens_map.json", "tokenizer.json", "vocab.txt", VOCABULARY, LICENCE,
)  # fmt: skip
STOP_TOKENS = ("<eod>", "<|im_start|>", "<|im_end|>")
AS_WRITTEN = {
    # The name that every version of transformers knows; the newest writes one of its own.
    "tokenizer_class": "PreTrainedTokenizerFast",
    # For a Qwen2 config, transformers 5 trusts no class named here: it builds Qwen2's tokenizer from
    # the vocabulary and drops the space tokens and the words that no merge reaches. Where a class of
    # the folder's own is named too, it reads tokenizer.json; that class is neither there nor looked for
    # without trust_remote_code.
    "auto_map": {"AutoTokenizer": [None, "tokenizer_json.PreTrainedTokenizerFast"]},
}
"""Makes AutoTokenizer, and so vLLM and SGLang, read tokenizer.json as it is."""
QUERY_INSTRUCTION = "为这个句子生成表示以用于检索相关文章："


def write_sidecars(
    source: Path,
    target: Path,
    *,
    kind: Kind,
    config: Mapping[str, Any],
    geometry: Geometry | None,
    dtype: str,
    quantisation: Quantisation | None,
    score_offset: float | None,
) -> None:
    """Write everything beside the weights. Raises DamagedCheckpoint, UnknownCheckpoint, NotFound."""
    if kind is Kind.EMBED:
        _json(target / "config.json", bert_config(config, dtype))
        _bert_tokenizer(source, target)
        _sentence_transformers(target, int(config["hidden_size"]), _positions(config))
    else:
        assert geometry is not None
        context = _positions(config)
        ids = _fused_tokenizer(source, target, context, rerank=kind is Kind.RERANK)
        fields = qwen2_config(
            config,
            geometry,
            dtype=dtype,
            ids=ids,
            rerank=kind is Kind.RERANK,
            score_offset=score_offset or 0.0,
            quantisation=quantisation.fields if quantisation else None,
            where=str(source),
        )
        _json(target / "config.json", fields)
        if kind is Kind.CHAT:
            published = source / "generation_config.json"
            given = read_json(published) if published.is_file() else {}
            _json(
                target / "generation_config.json",
                generation_config(given, ids, vocab=geometry.vocab),
            )
    for path in source.iterdir():
        if path.is_file() and (path.name == LICENCE or _is_licence(path.name)):
            shutil.copyfile(path, target / path.name)


def _is_licence(name: str) -> bool:
    return name.lower().startswith(("license", "licence", "notice")) or "许可证" in name


def _fused_tokenizer(source: Path, target: Path, context: int, *, rerank: bool) -> dict[str, int]:
    """Write the tokenizer and its chat template; gives the ids of the three stop tokens."""
    from transformers import PreTrainedTokenizerFast

    from models.zhinao.tokenizer import DEFAULT_SYSTEM, chat_template, load_tokenizer

    try:
        tokenizer = load_tokenizer(source)
    except (OSError, ValueError) as error:
        raise DamagedCheckpoint(f"the vocabulary of {source} is not usable: {error}") from error
    published = source / "tokenizer_config.json"
    template = (read_json(published) if published.is_file() else {}).get("chat_template")
    fast = PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        eos_token="<eod>",  # noqa: S106
        pad_token="<eod>" if rerank else "<pad>",
        unk_token="<unk>",  # noqa: S106
        padding_side="right" if rerank else "left",
        model_max_length=context,
        clean_up_tokenization_spaces=False,
    )
    fast.chat_template = template if isinstance(template, str) else chat_template(DEFAULT_SYSTEM[2])
    with quiet():
        fast.save_pretrained(target)
    config = read_json(target / "tokenizer_config.json")
    config |= AS_WRITTEN
    _json(target / "tokenizer_config.json", config)
    ids = {token: tokenizer.token_to_id(token) for token in STOP_TOKENS}
    vocabulary = int(read_json(source / "config.json")["vocab_size"])
    if tokenizer.get_vocab_size() > vocabulary:
        raise DamagedCheckpoint(
            f"the vocabulary of {source} has {tokenizer.get_vocab_size()} tokens and its weights "
            f"{vocabulary} rows: the two do not belong together; {AGAIN}."
        )
    return ids


def _bert_tokenizer(source: Path, target: Path) -> None:
    from transformers import BertTokenizer

    vocabulary = source / "vocab.txt"
    published = source / "tokenizer_config.json"
    fields = read_json(published) if published.is_file() else {}
    lower = fields.get("do_lower_case", True) is True
    try:
        words = vocabulary.read_text("utf-8").removesuffix("\n").split("\n")
    except (OSError, UnicodeDecodeError) as error:
        raise DamagedCheckpoint(f"{vocabulary} cannot be read ({error}): {AGAIN}.") from error
    special = {"[CLS]", "[SEP]", "[PAD]", "[UNK]", "[MASK]"}
    if not special <= set(words):
        raise DamagedCheckpoint(
            f"{vocabulary} lacks {', '.join(sorted(special - set(words)))}: {AGAIN}."
        )
    shutil.copyfile(vocabulary, target / "vocab.txt")
    tokenizer = BertTokenizer(
        vocab={word: number for number, word in enumerate(words)},
        do_lower_case=lower,
        tokenize_chinese_chars=True,
        model_max_length=512,
    )
    tokenizer.save_pretrained(target)


def _sentence_transformers(target: Path, dim: int, context: int) -> None:
    """What sentence-transformers and TEI read: the CLS vector of the last layer, normalised."""
    modules = [
        ("0", "", "sentence_transformers.models.Transformer"),
        ("1", "1_Pooling", "sentence_transformers.models.Pooling"),
        ("2", "2_Normalize", "sentence_transformers.models.Normalize"),
    ]
    listed = [
        {"idx": int(name), "name": name, "path": path, "type": kind} for name, path, kind in modules
    ]
    write_text(target / "modules.json", json.dumps(listed, indent=1))
    _json(
        target / "sentence_bert_config.json",
        {"max_seq_length": context, "do_lower_case": False},
    )
    _json(
        target / "config_sentence_transformers.json",
        {
            "prompts": {"query": QUERY_INSTRUCTION, "document": ""},
            "default_prompt_name": None,
            "similarity_fn_name": "cosine",
        },
    )
    (target / "1_Pooling").mkdir(exist_ok=True)
    _json(
        target / "1_Pooling" / "config.json",
        {
            "word_embedding_dimension": dim,
            "pooling_mode_cls_token": True,
            "pooling_mode_mean_tokens": False,
            "pooling_mode_max_tokens": False,
            "pooling_mode_mean_sqrt_len_tokens": False,
        },
    )
    (target / "2_Normalize").mkdir(exist_ok=True)


def _positions(config: Mapping[str, Any]) -> int:
    return int(config.get("max_position_embeddings") or 512)


def _json(path: Path, value: Mapping[str, Any]) -> None:
    write_text(path, json.dumps(value, ensure_ascii=False, indent=1))
