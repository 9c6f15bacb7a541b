"""Runs multilingual-e5-small: texts in, hidden states out. Blocking; threads may share one engine."""

import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any

import numpy as np

from models.bundled import GRAPH, VOCABULARY
from models.e5_tokenizer import E5Tokenizer, Tokens, load_vocabulary
from models.model_folder import Manifest, open_manifest
from pipeline.errors import ModelUnavailable, memory_ran_out
from pipeline.types import Vectors

MAX_TOKENS = 512
HIDDEN = 384
_LARGEST_BATCH = 4
_BATCH_TOKENS = 2048
"""Padding included. Larger batches are no faster on a CPU and take more memory: see bench/embed.py."""


class Side(StrEnum):
    """What a text is to the model, which was trained with these prefixes."""

    QUERY = "query: "
    PASSAGE = "passage: "


class Output(StrEnum):
    """Hidden states of every token: after the last layer, or after the one for late interaction."""

    LAST = "last"
    MIDDLE = "middle"


@dataclass(frozen=True, slots=True)
class Encoded:
    """One text, read: its unit vector (hidden,) and the hidden states (t, hidden) of
    the text's own t tokens: without begin mark, prefix and end mark.
    """

    vector: Vectors
    states: Vectors


class Halt:
    """Ends what `encode` was given it for, within milliseconds, from any thread; that raises an error of onnxruntime,
    for nobody waits for it.
    """

    def __init__(self) -> None:
        import onnxruntime

        self.options = onnxruntime.RunOptions()

    def now(self) -> None:
        self.options.terminate = True


class E5Engine:
    """The network and its tokenizer."""

    def __init__(self, session: Any, tokenizer: E5Tokenizer, manifest: Manifest) -> None:  # noqa: ANN401  onnxruntime has no types
        self._session = session
        self._tokenizer = tokenizer
        self.manifest = manifest
        self._heads = {side: [tokenizer.begin, *tokenizer.ids(side.rstrip())] for side in Side}

    @classmethod
    def load(cls, folder: Path, *, threads: int) -> "E5Engine":
        """Opens a folder that `models.bundled.ensure_e5` wrote. Raises ModelUnavailable."""
        manifest = open_manifest(folder)
        tokenizer = E5Tokenizer(load_vocabulary(folder / VOCABULARY))
        return cls(_open_session(folder / GRAPH, threads), tokenizer, manifest)

    def tokens(self, text: str) -> Tokens:
        """The text's own tokens with their places."""
        return self._tokenizer.tokens(text)

    def ids(self, text: str, side: Side) -> list[int]:
        """All ids that the model reads, prefix and marks included."""
        return [*self._heads[side], *self._tokenizer.ids(text), self._tokenizer.end]

    def encode(
        self,
        rows: Sequence[Sequence[int]],
        side: Side,
        output: Output,
        halt: Halt | None = None,
    ) -> list[Encoded]:
        """Encodes rows of ids (each from `ids`, at most MAX_TOKENS) in one batch.

        Raises MemoryError when the machine has too little memory for them.
        """
        lengths = [len(row) for row in rows]
        ids = np.full((len(rows), max(lengths)), self._tokenizer.pad, dtype=np.int64)
        mask = np.zeros_like(ids)
        for number, row in enumerate(rows):
            ids[number, : len(row)] = row
            mask[number, : len(row)] = 1
        vectors, states = self._run(output, {"input_ids": ids, "attention_mask": mask}, halt)
        head = len(self._heads[side])
        return [
            Encoded(vectors[number], states[number, head : length - 1])
            for number, length in enumerate(lengths)
        ]

    def _run(
        self, output: Output, inputs: Mapping[str, Any], halt: Halt | None
    ) -> tuple[Vectors, Vectors]:
        options = halt.options if halt else None
        with _memory():
            vectors, states = self._session.run(["vector", output.value], inputs, options)
        return vectors, states


def batches(lengths: Sequence[int]) -> Iterator[list[int]]:
    """Positions of texts to encode together: of like length, so that little is padded."""
    batch: list[int] = []
    for position in _longest_first(lengths):
        longest = lengths[batch[0]] if batch else 0
        if len(batch) == _LARGEST_BATCH or (len(batch) + 1) * longest > _BATCH_TOKENS:
            yield batch
            batch = []
        batch.append(position)
    if batch:
        yield batch


def _longest_first(lengths: Sequence[int]) -> Iterable[int]:
    """The largest batch first: if memory is short, it shows at once."""
    return sorted(range(len(lengths)), key=lambda position: -lengths[position])


@contextmanager
def _memory() -> Iterator[None]:
    """Turns onnxruntime's own errors of refused memory into MemoryError."""
    try:
        yield
    except Exception as error:
        if isinstance(error, MemoryError) or not memory_ran_out(error):
            raise
        raise MemoryError(str(error)) from error


def _open_session(path: Path, threads: int) -> Any:  # noqa: ANN401  onnxruntime has no types
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read when it is imported
    import onnxruntime
    from onnxruntime.capi import onnxruntime_pybind11_state as problems

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    # Idle threads sleep, so that a search stays quick while documents are embedded.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.enable_cpu_mem_arena = False
    options.log_severity_level = 3
    try:
        return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])
    except (
        problems.Fail,
        problems.InvalidArgument,
        problems.InvalidGraph,
        problems.InvalidProtobuf,
        problems.NoSuchFile,
        problems.NotImplemented,
        problems.RuntimeException,
    ) as error:
        if memory_ran_out(error):
            raise ModelUnavailable(
                f"there is too little memory to load {path}: free some, then start again"
            ) from error
        raise ModelUnavailable(
            f"onnxruntime can't load {path} ({error}). Delete its folder; it is written anew."
        ) from error
