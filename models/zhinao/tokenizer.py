"""The published vocabulary (`vocab/360.tiktoken`) as a fast tokenizer, and ChatML written piece by piece."""

import base64
import binascii
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from models.zhinao.vocabulary import SPECIAL_TOKENS

VOCABULARY = Path("vocab") / "360.tiktoken"
PATTERN = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|"
    r"\s+(?!\S)|\s+"
)
"""cl100k's split, with digits one by one."""
SPACES = {"[space8]": 8, "[space4]": 4, "[space3]": 3, "[space2]": 2}
DEFAULT_SYSTEM = {1: "You are a helpful assistant", 2: "You are a helpful assistant."}
"""By generation: the first one's template has no full stop."""


def read_ranks(path: Path) -> list[bytes]:
    """The tokens in the order of their ids: one base64 word and its rank a line.

    Raises ValueError, naming file and line, unless ranks run from 0 without a gap and every byte is a token.
    """
    tokens: list[bytes] = []
    for number, line in enumerate(path.read_bytes().splitlines(), 1):
        if not line.strip():
            continue
        try:
            word, rank = line.split()
            token, value = base64.b64decode(word, validate=True), int(rank)
        except (ValueError, binascii.Error) as error:
            raise ValueError(
                f"{path}, line {number}: not a base64 word and a rank; download the file again"
            ) from error
        if value != len(tokens):
            raise ValueError(
                f"{path}, line {number}: rank {value} where {len(tokens)} is due; ranks must run from 0 without a "
                "gap: it is another vocabulary, or a piece is missing; download the file again"
            )
        tokens.append(token)
    if len(set(tokens)) != len(tokens):
        raise ValueError(f"{path}: a token stands there twice; download the file again")
    if missing := 256 - sum(len(token) == 1 for token in tokens):
        raise ValueError(
            f"{path}: {missing} of the 256 single bytes are missing; download the file again"
        )
    return tokens


def build_tokenizer(ranks: Sequence[bytes]) -> Any:  # noqa: ANN401  tokenizers ships no types
    """A `tokenizers.Tokenizer` with the ids of the published one, its eleven special tokens included.

    Merges are all splits of each token into two others, by the token's rank: tiktoken looks no merge list up,
    it merges whatever gives the lowest rank; whole pieces that are tokens are taken first.
    Runs of spaces become the four space tokens, `[br]` and `<br>` line breaks, as the published class does.
    Control tokens in a text become control tokens unless `encode_special_tokens` is set.
    """
    from tokenizers import AddedToken, Regex, Tokenizer, decoders, models, normalizers
    from tokenizers import pre_tokenizers as pre

    letters = _byte_letters()
    words = ["".join(letters[byte] for byte in token) for token in ranks]
    vocabulary = {word: rank for rank, word in enumerate(words)}
    model = models.BPE(
        vocab=vocabulary, merges=list(_merges(words, vocabulary)), ignore_merges=True
    )
    tokenizer = Tokenizer(model)
    replaced = [("[br]", "\n"), ("<br>", "\n")]
    replaced += [(" " * count, token) for token, count in SPACES.items()]
    tokenizer.normalizer = normalizers.Sequence(
        [normalizers.Replace(old, new) for old, new in replaced]
    )
    tokenizer.pre_tokenizer = pre.Sequence(
        [
            pre.Split(Regex(PATTERN), behavior="isolated"),
            pre.ByteLevel(add_prefix_space=False, use_regex=False),
        ]
    )
    tokenizer.decoder = decoders.Sequence(
        [
            decoders.ByteLevel(),
            *(decoders.Replace(token, " " * count) for token, count in SPACES.items()),
        ]
    )
    for token in SPECIAL_TOKENS:
        if token in SPACES:  # matched after the normaliser wrote them
            tokenizer.add_tokens([AddedToken(token, normalized=True, special=False)])
        else:
            tokenizer.add_special_tokens([AddedToken(token, normalized=False, special=True)])
    for place, token in enumerate(SPECIAL_TOKENS):
        if tokenizer.token_to_id(token) != len(ranks) + place:
            raise ValueError(
                f"{token} has the id {tokenizer.token_to_id(token)} and must have {len(ranks) + place}: the vocabulary "
                "holds the text of a special token; it is not a 360Zhinao one"
            )
    return tokenizer


def load_tokenizer(folder: Path) -> Any:  # noqa: ANN401  tokenizers ships no types
    """The tokenizer of a published folder. Raises ValueError, or OSError where the file is missing."""
    return build_tokenizer(read_ranks(folder / VOCABULARY))


def without_control(tokenizer: Any) -> Any:  # noqa: ANN401
    """A copy that reads control tokens in a text as ordinary characters; space tokens stay what they are."""
    from tokenizers import Tokenizer

    plain = Tokenizer.from_str(tokenizer.to_str())
    plain.encode_special_tokens = True
    return plain


def encode_chat(
    tokenizer: Any,  # noqa: ANN401
    messages: Sequence[Mapping[str, str]],
    *,
    default_system: str | None = DEFAULT_SYSTEM[2],
    open_answer: bool = True,
) -> list[int]:
    """ChatML ids of messages (`role`, `content`), tokenised piece by piece as the models were trained.

    `tokenizer` comes from `without_control`, so that nothing a user types becomes a control token. Without a
    system message first, `default_system` is put there (None: none). `open_answer` ends with the head of the
    assistant's turn.
    """
    start, end = tokenizer.token_to_id("<|im_start|>"), tokenizer.token_to_id("<|im_end|>")

    def ids(text: str) -> list[int]:
        found: list[int] = tokenizer.encode(text, add_special_tokens=False).ids
        return found

    line = ids("\n")
    turns = [(message["role"], message["content"]) for message in messages]
    if default_system is not None and (not turns or turns[0][0] != "system"):
        turns.insert(0, ("system", default_system))
    encoded: list[int] = []
    for role, content in turns:
        encoded += [start, *ids(role), *line, *ids(content), end, *line]
    return [*encoded, start, *ids("assistant"), *line] if open_answer else encoded


def chat_template(default_system: str) -> str:
    """The Jinja form of the same, for tools that read it from tokenizer_config.json."""
    return (
        "{% for message in messages %}"
        "{% if loop.first and message['role'] != 'system' %}"
        "{{ '<|im_start|>system\\n" + default_system + "<|im_end|>\\n' }}{% endif %}"
        "{{ '<|im_start|>' + message['role'] + '\\n' + message['content'] + '<|im_end|>\\n' }}"
        "{% endfor %}{% if add_generation_prompt %}{{ '<|im_start|>assistant\\n' }}{% endif %}"
    )


def _merges(words: Sequence[str], vocabulary: Mapping[str, int]) -> Iterator[tuple[str, str]]:
    for word in words:
        splits = [(word[:at], word[at:]) for at in range(1, len(word))]
        known = [pair for pair in splits if pair[0] in vocabulary and pair[1] in vocabulary]
        yield from sorted(known, key=lambda pair: (vocabulary[pair[0]], vocabulary[pair[1]]))


def _byte_letters() -> list[str]:
    """The letter that stands for each byte in a byte-level vocabulary (GPT-2's map)."""
    shown = [*range(33, 127), *range(161, 173), *range(174, 256)]
    letters = {byte: chr(byte) for byte in shown}
    for byte in range(256):
        letters.setdefault(byte, chr(256 + len(letters) - len(shown)))
    return [letters[byte] for byte in range(256)]
