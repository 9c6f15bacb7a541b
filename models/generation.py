"""Writes tokens one by one with a causal model of transformers. Runs in a thread; needs torch."""

from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from pipeline.types import Sampling

if TYPE_CHECKING:
    import torch

_PREFILL = 4096
"""Prompt tokens that are read at once: so many states are in memory together, and a reader who
left is noticed between them."""


@dataclass(frozen=True, slots=True)
class Writing:
    """How tokens are chosen. `vocabulary` ids are real, the rows behind them only pad the matrix.

    Temperature 0 takes the likeliest; otherwise the dice are thrown among the `top_k` likeliest
    (0: all) and of those among the first that have `top_p` of the probability together (Holtzman
    et al. 2020). The same seed throws the same. Penalties come before either.
    """

    stops: frozenset[int]
    vocabulary: int
    max_tokens: int
    temperature: float = 0.0
    sampling: Sampling = field(default_factory=Sampling)


def written(
    model: Any,  # noqa: ANN401  transformers ships no types
    prompt: Sequence[int],
    writing: Writing,
    left: Callable[[], bool],
) -> Iterator[int]:
    """Token ids until a stop id (not given), `max_tokens`, or until `left` says that nobody reads."""
    import torch
    from transformers import DynamicCache

    cache = DynamicCache(config=model.config)
    place = next(model.parameters()).device
    pending, before = list(prompt), Counter[int]()
    dice = None
    if writing.sampling.seed is not None:
        dice = torch.Generator(place).manual_seed(writing.sampling.seed)
    for _ in range(writing.max_tokens):
        logits = None
        while pending:
            if left():
                return
            part, pending = pending[:_PREFILL], pending[_PREFILL:]
            with torch.inference_mode():
                output = model(
                    input_ids=torch.tensor([part], device=place),
                    past_key_values=cache,
                    use_cache=True,
                    logits_to_keep=1,
                )
            logits = output.logits[0, -1]
        assert logits is not None
        token = _chosen(logits, writing, before, dice)
        if token in writing.stops:
            return
        yield token
        pending = [token]
        before[token] += 1


def _chosen(
    logits: "torch.Tensor",
    writing: Writing,
    before: Mapping[int, int],
    dice: "torch.Generator | None",
) -> int:
    import torch

    real, sampling = logits[: writing.vocabulary].float(), writing.sampling
    if before and (sampling.presence_penalty or sampling.frequency_penalty):
        real = real.clone()  # what the model returned is not ours to change
        times = torch.tensor(list(before.values()), device=real.device)
        real[list(before)] -= sampling.presence_penalty + sampling.frequency_penalty * times
    if writing.temperature <= 0:
        return int(real.argmax())
    shares, order = torch.softmax(real / writing.temperature, dim=-1).sort(descending=True)
    if sampling.top_k and sampling.top_k > 0:
        shares[sampling.top_k :] = 0.0
        shares = shares / shares.sum()
    if sampling.top_p is not None:
        shares = shares.masked_fill(shares.cumsum(0) - shares >= max(sampling.top_p, 1e-6), 0.0)
    return int(order[torch.multinomial(shares, 1, generator=dice)])


class Spelling:
    """Ids to text, a token at a time: a character of several tokens is held back until it is whole."""

    def __init__(self, decode: Callable[[Sequence[int]], str]) -> None:
        self._decode = decode
        self._ids: list[int] = []
        self._shown = 0

    def feed(self, token: int) -> str:
        """The characters that this token completes."""
        self._ids.append(token)
        text = self._decode(self._ids)
        if text.endswith("\ufffd") and len(self._ids) - self._shown < 8:
            return ""
        return self._advance(text)

    def end(self) -> str:
        """What is left, incomplete as it may be."""
        return self._advance(self._decode(self._ids)) if len(self._ids) > self._shown else ""

    def _advance(self, text: str) -> str:
        piece = text[len(self._decode(self._ids[: self._shown])) :] if self._shown else text
        # Keep the last tokens as context: how a token is spelled may hang on the one before.
        self._ids, self._shown = self._ids[-4:], min(4, len(self._ids))
        return piece
