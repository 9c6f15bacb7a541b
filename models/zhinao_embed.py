"""The embedder 360Zhinao-search, run in this process by transformers."""

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from models.batch import Budget, MicroBatcher
from models.checkpoint.source import read_json, weight_files
from models.device import Device, choose, halving, require_torch
from models.embed import joined
from models.model_folder import file_sha256
from models.torch_weights import fill, tensors
from models.wordpiece import WordPiece
from pipeline.errors import ModelUnavailable, TooLarge
from pipeline.types import Embeddings, Passage, Vectors

if TYPE_CHECKING:
    import torch

INSTRUCTION = "为这个句子生成表示以用于检索相关文章："
"""What stands before a query, without a space (360Zhinao repository, C-MTEB evaluation)."""
MAX_TOKENS = 512
ARCHITECTURES = ("TextEncoderModel", "BertModel")
RECIPE = "cls-l2-1"
"""Raise it when the same weights are to give other vectors."""
_TURN = 256
"""Passages that one call hands over at once: others get their turn between them."""


class ZhinaoEmbedder:
    """Implements the port Embedder: the first token's last state, of length 1; no token vectors.

    Reads the published folder (architecture TextEncoderModel, keys prefixed `bert.`) and a
    converted one (BertModel); weights as safetensors or `.bin`.
    """

    def __init__(
        self,
        model: Any,  # noqa: ANN401  transformers ships no types
        words: WordPiece,
        device: Device,
        *,
        fingerprint: str,
        budget: Budget,
        waiting: int = 2048,
    ) -> None:
        self._model = model
        self._words = words
        self._device = device
        self._fingerprint = fingerprint
        self._dim = int(model.config.hidden_size)
        self._most = min(MAX_TOKENS, int(model.config.max_position_embeddings))
        self._batcher = MicroBatcher[tuple[str, bool], list[int], Vectors](
            "embedder",
            prepare=lambda texts: [self._row(text, cut=cut) for text, cut in texts],
            compute=halving("The embedder", self._compute),
            length=len,
            budget=budget,
            waiting=waiting,
        )

    @classmethod
    def load(
        cls,
        folder: Path,
        *,
        device: str = "auto",
        batch_tokens: int = 8192,
        threads: int | None = None,
        waiting: int = 2048,
    ) -> "ZhinaoEmbedder":
        """`device` is one of models.device.choose; a batch has `batch_tokens` at most, padding
        included. On the CPU `threads` compute, for all models of this process; None: torch's choice.

        Raises ModelUnavailable, NotFound or InvalidInput with the file that is wrong.
        """
        require_torch()
        options = _config(folder)
        chosen = choose(device, threads=threads)
        words = WordPiece.load(folder)
        from transformers import BertConfig, BertModel

        config = BertConfig.from_dict({**options, "architectures": ["BertModel"]})
        weights = {
            name.removeprefix("bert."): tensor
            for name, tensor in tensors(folder, lambda name: "pooler." not in name).items()
        }
        model = fill(
            BertModel, config, weights, folder=folder, device=chosen, add_pooling_layer=False
        )
        return cls(
            model,
            words,
            chosen,
            fingerprint=fingerprint(folder),
            budget=Budget(batch_tokens),
            waiting=waiting,
        )

    def close(self) -> None:
        """Ends the threads; calls that wait fail with ModelUnavailable."""
        self._batcher.close()

    @property
    def fingerprint(self) -> str:
        """Changes whenever vectors may change: other weights, vocabulary or recipe."""
        return self._fingerprint

    @property
    def dim(self) -> int:
        return self._dim

    @property
    def token_dim(self) -> int | None:
        return None

    @property
    def max_tokens(self) -> int:
        return self._most

    def count_tokens(self, text: str) -> int:
        """Tokens of a passage of this text, [CLS] and [SEP] included."""
        return len(self._words.ids(text))

    async def embed_queries(self, texts: Sequence[str]) -> Embeddings:
        """The instruction stands before each. A query over `max_tokens` is read up to there.

        Raises Overloaded when too much waits.
        """
        return await self._embed([INSTRUCTION + text for text in texts], cut=True)

    async def embed_passages(self, passages: Sequence[Passage]) -> Embeddings:
        """Raises TooLarge for a passage over `max_tokens`, Overloaded when too much waits."""
        return await self._embed([joined(passage) for passage in passages], cut=False)

    async def _embed(self, texts: Sequence[str], *, cut: bool) -> Embeddings:
        vectors: list[Vectors] = []
        for first in range(0, len(texts), _TURN):
            vectors += await self._batcher.run(
                [(text, cut) for text in texts[first : first + _TURN]]
            )
        return Embeddings(np.stack(vectors) if vectors else np.zeros((0, self._dim), np.float32))

    def _row(self, text: str, *, cut: bool) -> list[int]:
        """In the tokenising thread."""
        row = self._words.ids(text)
        if len(row) <= self._most:
            return row
        if cut:
            return [*row[: self._most - 1], row[-1]]
        raise TooLarge(
            f"A passage has {len(row)} tokens and the embedder reads {self._most} at most: "
            f"“{text[:40]}…”. Cut it into smaller passages."
        )

    def _compute(self, rows: Sequence[Sequence[int]]) -> list[Vectors]:
        """In the device thread: unit vectors (dim,) of token rows, padded to the longest."""
        import torch

        ids, mask = padded(rows, self._words.padding, self._device)
        with torch.inference_mode():
            states = self._model(input_ids=ids, attention_mask=mask).last_hidden_state[:, 0].float()
            vectors = torch.nn.functional.normalize(states, dim=-1).cpu().numpy()
        return list(np.asarray(vectors, dtype=np.float32))


def padded(
    rows: Sequence[Sequence[int]], padding: int, device: Device
) -> "tuple[torch.Tensor, torch.Tensor]":
    """Token ids and mask, both (rows, longest), filled on the right; on the device."""
    import torch

    longest = max(map(len, rows))
    ids = torch.tensor([[*row, *[padding] * (longest - len(row))] for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (longest - len(row)) for row in rows])
    return ids.to(device.place), mask.to(device.place)


def fingerprint(folder: Path) -> str:
    """Of the weights' bytes, the vocabulary and the recipe; half a second a gigabyte."""
    names = [*weight_files(folder), "vocab.txt", "tokenizer.json", "tokenizer_config.json"]
    sums = [file_sha256(folder / name) for name in names if (folder / name).is_file()]
    digest = hashlib.sha256(" ".join([RECIPE, *sums]).encode()).hexdigest()
    return f"360zhinao-search-{digest[:16]}"


def _config(folder: Path) -> dict[str, Any]:
    options = read_json(folder / "config.json")
    known = set(ARCHITECTURES) & set(options.get("architectures") or [])
    if options.get("model_type") != "bert" or not known:
        raise ModelUnavailable(
            f"{folder / 'config.json'} is of {options.get('model_type')} "
            f"{options.get('architectures')}, not of an embedder (bert, "
            f"{' or '.join(ARCHITECTURES)}): give the folder of 360Zhinao-search."
        )
    return options
