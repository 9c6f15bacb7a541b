"""The reranker 360Zhinao-1.8B-Reranking, run in this process by transformers."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.batch import Budget, MicroBatcher
from models.checkpoint.configs import SCORE_OFFSET
from models.checkpoint.score_position import ScorePosition
from models.device import Device, choose, halving, require_torch
from models.embed import joined
from models.zhinao_folder import END, START, Words, config_of, folder_tensors, qwen2
from pipeline.errors import ModelUnavailable
from pipeline.ports import EncodedQuery
from pipeline.rows import passage
from pipeline.types import Hit

if TYPE_CHECKING:
    import torch

ARCHITECTURES = ("ZhinaoForCausalLM", "Qwen2ForSequenceClassification")
_MARKS = 64
"""Tokens of the longest prompt that are kept for its frame (360Zhinao repository, Reranking)."""
_HEADS = ("linear.weight", "score.weight")
_BIASES = ("linear.bias", "score.bias")


@dataclass(frozen=True)
class Prompt:
    """The token sequence that the model scores (notes of the model, inference form).

    A system turn without a text, a user turn with query, blank line and passage, and an assistant
    turn with the placeholder `0`. It ends where the score is read: what follows cannot be seen from
    there. The frame is built piece by piece, so nothing in a text becomes a mark.
    """

    words: Words
    position: ScorePosition
    max_tokens: int = 1024

    def row(self, query: str, passage: str) -> list[int]:
        """Token ids, at most `max_tokens`."""
        start, end = self.words.control(START), self.words.control(END)
        ids = self.words.ids
        line = ids("\n")
        before = [start, *ids("system"), *line, end, *line, start, *ids("user"), *line]
        after = [end, *line, start, *ids("assistant"), *line]
        match self.position:
            case ScorePosition.BEFORE_PLACEHOLDER:
                pass
            case ScorePosition.PLACEHOLDER:
                after += ids("0")
            case ScorePosition.LAST | ScorePosition.MEAN:
                after += [*ids("0"), end, *line]
        return [*before, *self.body(query, passage), *after]

    def body(self, query: str, passage: str) -> list[int]:
        """Query, blank line and passage, cut from the right to `max_tokens` - 64.

        A query keeps at most half of that, or what the passage leaves free: a long query never
        pushes the passage out.
        """
        room = self.max_tokens - _MARKS
        both = self.words.ids(f"{query}\n\n{passage}")
        asked = self.words.ids(query)
        if len(both) <= room or len(asked) <= room // 2:
            return both[:room]
        rest = self.words.ids(f"\n\n{passage}")
        kept = max(room // 2, room - len(rest))
        return [*asked[:kept], *rest][:room]


class ZhinaoReranker:
    """Implements the port Reranker: 0 to 1, the sigmoid of the model's score.

    Scores compare across queries and scripts. Padding is no more than a batch needs, and the
    matrix that predicts words is never loaded. Reads the published folder (fused
    `qkv_proj`, head `linear`) and a converted one (Qwen2ForSequenceClassification, head `score`).
    """

    def __init__(
        self,
        backbone: Any,  # noqa: ANN401  transformers ships no types
        head: "torch.Tensor",
        bias: float,
        prompt: Prompt,
        device: Device,
        *,
        budget: Budget,
        waiting: int = 2048,
    ) -> None:
        """`head` (hidden,) is float32 and on the device."""
        self._backbone = backbone
        self._head = head
        self._bias = bias
        self._prompt = prompt
        self._device = device
        self._batcher = MicroBatcher[tuple[str, str], list[int], float](
            "reranker",
            prepare=lambda pairs: [prompt.row(*pair) for pair in pairs],
            compute=halving("The reranker", self._compute),
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
        max_tokens: int = 1024,
        waiting: int = 2048,
    ) -> "ZhinaoReranker":
        """`device` is one of models.device.choose; a batch has `batch_tokens` at most, padding
        included. The score is read where config.json's `score_position` says, else before the
        placeholder. Raises ModelUnavailable, NotFound or InvalidInput with the file that is wrong.
        """
        require_torch()
        options = config_of(folder, ARCHITECTURES)
        chosen = choose(device)
        words = Words.load(folder)
        import torch
        from transformers import Qwen2Model

        weights = folder_tensors(folder, lm_head=False)
        head = next((weights[name] for name in _HEADS if name in weights), None)
        if head is None or head.numel() != options["hidden_size"]:
            raise ModelUnavailable(
                f"the weights in {folder} have no score head ({' or '.join(_HEADS)}), so it is no "
                "reranker: give the folder of 360Zhinao-1.8B-Reranking."
            )
        # Qwen2's head has no place for a bias beside the weight: conversion puts it into the config.
        told = float(options.get(SCORE_OFFSET) or 0.0)
        bias = next((float(weights[name]) for name in _BIASES if name in weights), told)
        inner = {
            name.removeprefix("model."): tensor
            for name, tensor in weights.items()
            if name.startswith("model.")
        }
        backbone = qwen2(Qwen2Model, options, inner, folder=folder, device=chosen)
        prompt = Prompt(words, _position(options, folder), max_tokens)
        return cls(
            backbone,
            head.reshape(-1).to(chosen.place, torch.float32),
            bias,
            prompt,
            chosen,
            budget=Budget(batch_tokens),
            waiting=waiting,
        )

    def close(self) -> None:
        """Ends the threads; calls that wait fail with ModelUnavailable."""
        self._batcher.close()

    async def score(self, query: EncodedQuery, hits: Sequence[Hit]) -> list[float]:
        """One float a hit. Raises Overloaded when too much waits, or the GPU's memory is full."""
        passages = [joined(passage(hit.chunk)) for hit in hits]
        return await self._batcher.run([(query.text, passage) for passage in passages])

    def _compute(self, rows: Sequence[Sequence[int]]) -> list[float]:
        """In the device thread. The model reads from left to right, so padding on the right is
        seen by nobody and needs no mask.
        """
        import torch

        longest = max(map(len, rows))
        place = self._device.place
        ids = torch.tensor([[*row, *[0] * (longest - len(row))] for row in rows], device=place)
        sizes = torch.tensor([len(row) for row in rows], device=place)
        with torch.inference_mode():
            states = self._backbone(input_ids=ids, use_cache=False).last_hidden_state
            if self._prompt.position is ScorePosition.MEAN:
                real = torch.arange(longest, device=place) < sizes[:, None]
                read = (states.float() * real[..., None]).sum(dim=1) / sizes[:, None]
            else:
                read = states[torch.arange(len(rows), device=place), sizes - 1].float()
            return torch.sigmoid(read @ self._head + self._bias).tolist()


def _position(options: dict[str, Any], folder: Path) -> ScorePosition:
    given = options.get("score_position") or ScorePosition.BEFORE_PLACEHOLDER.value
    try:
        return ScorePosition(given)
    except ValueError as error:
        raise ModelUnavailable(
            f"{folder / 'config.json'} has the score_position {given!r}: set one of "
            f"{', '.join(position.value for position in ScorePosition)}."
        ) from error
