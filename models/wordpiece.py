"""The tokenizer of a BERT folder, by its files and without torch."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from models.checkpoint.source import read_json
from pipeline.errors import ModelUnavailable

_AGAIN = "download the model again with `zhinao models pull`"


@dataclass(frozen=True)
class WordPiece:
    """Token ids of a text and of the marks around it."""

    tokenizer: Any  # a tokenizers.Tokenizer; that package ships no types
    first: int
    last: int
    padding: int

    @classmethod
    def load(cls, folder: Path) -> "WordPiece":
        """From `tokenizer.json`, else from `vocab.txt` and `tokenizer_config.json` (lower-casing,
        Han characters one by one). Raises ModelUnavailable when neither is sound.
        """
        from tokenizers import Tokenizer

        path = folder / "tokenizer.json"
        if path.is_file():
            try:
                tokenizer = Tokenizer.from_file(str(path))
            except Exception as error:  # tokenizers raises this class itself
                raise ModelUnavailable(f"{path} is no tokenizer ({error}): {_AGAIN}.") from error
            tokenizer.no_padding()
            tokenizer.no_truncation()
            tokenizer.encode_special_tokens = True  # a mark inside a text is text
        else:
            tokenizer = _from_vocabulary(folder)
        found = [tokenizer.token_to_id(mark) for mark in ("[CLS]", "[SEP]", "[PAD]")]
        marks = [mark for mark in found if mark is not None]
        if len(marks) < len(found):
            raise ModelUnavailable(
                f"the vocabulary in {folder} lacks [CLS], [SEP] or [PAD], so it is not that of a "
                f"BERT model: {_AGAIN}."
            )
        return cls(tokenizer, *marks)

    def ids(self, text: str) -> list[int]:
        """The text's tokens between its two marks; a mark inside the text is ordinary text."""
        inner: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return [self.first, *inner, self.last]


def _from_vocabulary(folder: Path) -> Any:  # noqa: ANN401  tokenizers ships no types
    from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

    path = folder / "vocab.txt"
    try:
        words = path.read_text("utf-8").splitlines()
    except (OSError, UnicodeDecodeError) as error:
        raise ModelUnavailable(
            f"{folder} has neither a tokenizer.json nor a readable vocab.txt: {_AGAIN}."
        ) from error
    vocabulary = {word: number for number, word in enumerate(words)}
    if "[UNK]" not in vocabulary:
        raise ModelUnavailable(
            f"{path} lacks [UNK], it is truncated or of another model: {_AGAIN}."
        )
    options: dict[str, Any] = {}
    if (folder / "tokenizer_config.json").is_file():
        options = read_json(folder / "tokenizer_config.json")
    lower = bool(options.get("do_lower_case", True))
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))  # noqa: S106  (a mark)
    tokenizer.normalizer = normalizers.BertNormalizer(
        clean_text=True,
        handle_chinese_chars=bool(options.get("tokenize_chinese_chars", True)),
        strip_accents=options.get("strip_accents"),
        lowercase=lower,
    )
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    return tokenizer
