"""Runs published and converted models on a few tokens, on the CPU, one model at a time."""

import gc
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint.configs import SCORE_OFFSET
from models.checkpoint.errors import DamagedCheckpoint
from models.checkpoint.plan import Kind
from models.checkpoint.published import Checkpoint
from models.checkpoint.score_position import Pair, ScorePosition
from models.checkpoint.source import read_json
from models.torch_weights import quiet

if TYPE_CHECKING:
    import torch

_TOKENS = 48
_LONGEST = 960


def logit_difference(checkpoint: Checkpoint, target: Path) -> float:
    """The largest difference of what both models say about the same random tokens.

    Logits of a chat model, the last layer's states of reranker and embedder; NaN where one of them
    is NaN. Raises DamagedCheckpoint where transformers loads fewer or other weights than it needs.
    """
    import torch

    ids = torch.randint(
        0,
        int(checkpoint.config["vocab_size"]),
        (1, min(_TOKENS, int(checkpoint.config.get("max_position_embeddings") or _TOKENS))),
        generator=torch.Generator().manual_seed(0),
    )
    dtype = str(read_json(target / "config.json")["torch_dtype"])
    mine = _converted_answer(target, checkpoint.kind, ids)
    gc.collect()
    theirs = _published_answer(checkpoint, ids, dtype)
    return float((mine - theirs).abs().max())


def position_scores(target: Path, pairs: Sequence[Pair]) -> dict[ScorePosition, list[float]]:
    """The score of each pair at every candidate position, from one reading of its whole prompt.

    The model is causal, so a score before the placeholder is that of a prompt that ends there.
    """
    import torch

    model = _load("AutoModelForSequenceClassification", target)
    offset = float(read_json(target / "config.json").get(SCORE_OFFSET) or 0.0)
    scores: dict[ScorePosition, list[float]] = {position: [] for position in ScorePosition}
    for states in position_states(target, pairs, model=model):
        for position, state in states.items():
            with torch.inference_mode():
                score = model.score(state.to(model.score.weight.dtype)).float() + offset
            scores[position].append(float(score))
    return scores


def position_states(
    target: Path,
    pairs: Sequence[Pair],
    *,
    model: Any = None,  # noqa: ANN401
) -> Iterator[dict[ScorePosition, "torch.Tensor"]]:
    """The normalised last hidden states [width] of each pair's prompt at every candidate position."""
    import torch

    if model is None:
        model = _load("AutoModelForSequenceClassification", target)
    for pair in pairs:
        ids, tail = prompt_ids(target, pair)
        with torch.inference_mode():
            states = model.model(torch.tensor([ids])).last_hidden_state[0].float()
        yield {
            ScorePosition.BEFORE_PLACEHOLDER: states[-tail - 1],
            ScorePosition.PLACEHOLDER: states[-tail],
            ScorePosition.LAST: states[-1],
            ScorePosition.MEAN: states.mean(0),
        }


def prompt_ids(target: Path, pair: Pair) -> tuple[list[int], int]:
    """The ids of a pair's whole prompt, and how many of them follow the assistant's line break.

    The passage is cut where query and passage together are over 960 tokens.
    """
    from tokenizers import Tokenizer

    from models.zhinao.tokenizer import encode_chat, without_control

    tokenizer = without_control(Tokenizer.from_file(str(target / "tokenizer.json")))
    room = max(1, _LONGEST - len(tokenizer.encode(pair.query, add_special_tokens=False).ids))
    offsets = tokenizer.encode(pair.passage, add_special_tokens=False).offsets
    passage = pair.passage[: offsets[room][0]] if len(offsets) > room else pair.passage
    turns = [
        {"role": "system", "content": ""},
        {"role": "user", "content": f"{pair.query}\n\n{passage}"},
    ]
    head = encode_chat(tokenizer, turns)
    whole = encode_chat(
        tokenizer, [*turns, {"role": "assistant", "content": "0"}], open_answer=False
    )
    return whole, len(whole) - len(head)


def _converted_answer(target: Path, kind: Kind, ids: "torch.Tensor") -> "torch.Tensor":
    import torch

    with torch.inference_mode():
        if kind is Kind.CHAT:
            return _float(_load("AutoModelForCausalLM", target)(ids).logits)
        if kind is Kind.EMBED:
            return _float(_load("AutoModel", target)(ids).last_hidden_state)
        model = _load("AutoModelForSequenceClassification", target)
        states = model.model(ids).last_hidden_state
        offset = float(read_json(target / "config.json").get(SCORE_OFFSET) or 0.0)
        return _float(model.score(states).squeeze(-1)) + offset


def _published_answer(checkpoint: Checkpoint, ids: "torch.Tensor", dtype: str) -> "torch.Tensor":
    import torch

    from models.zhinao.modeling import ZhinaoForCausalLM, ZhinaoForReranking, register

    register()
    with torch.inference_mode():
        if checkpoint.kind is Kind.EMBED:
            return _float(_load("BertModel", checkpoint.folder, dtype)(ids).last_hidden_state)
        if checkpoint.kind is Kind.CHAT:
            return _float(_checked(ZhinaoForCausalLM, checkpoint.folder, dtype)(ids).logits)
        has_bias = {"linear_has_bias": checkpoint.score_offset is not None}
        model = _checked(ZhinaoForReranking, checkpoint.folder, dtype, **has_bias)
        return _float(model(ids))


def _load(name: str, folder: Path, dtype: str = "auto") -> Any:  # noqa: ANN401
    import transformers

    return _checked(getattr(transformers, name), folder, dtype)


def _checked(kind: Any, folder: Path, dtype: str, **more: object) -> Any:  # noqa: ANN401
    """A model of a class of transformers, every tensor of which was in the folder."""
    from models.zhinao.config import ZhinaoConfig

    if more:
        more = {"config": ZhinaoConfig.from_pretrained(folder, **more)}
    try:
        with quiet():
            model, report = kind.from_pretrained(
                folder, dtype=dtype, output_loading_info=True, local_files_only=True, **more
            )
    except (OSError, ValueError, RuntimeError) as error:
        raise DamagedCheckpoint(
            f"transformers does not load {folder} ({error}): convert it again."
        ) from error
    wrong = [*report["missing_keys"], *report["unexpected_keys"], *report["mismatched_keys"]]
    if wrong:
        raise DamagedCheckpoint(
            f"transformers misses or cannot place tensors of {folder}, the first is {wrong[0]}."
        )
    return model.eval()


def _float(tensor: "torch.Tensor") -> "torch.Tensor":
    return tensor.float()
