"""Where a model of this process runs, and what happens when its memory is full. Needs torch."""

import importlib.util
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

from pipeline.errors import InvalidInput, ModelUnavailable, Overloaded

if TYPE_CHECKING:
    import torch

Row = TypeVar("Row")
Result = TypeVar("Result")


@dataclass(frozen=True, slots=True)
class Device:
    """A place, the number format of weights there, and the attention that transformers uses."""

    place: "torch.device"
    dtype: "torch.dtype"
    attention: str


def choose(name: str, *, threads: int | None = None) -> Device:
    """The device of a setting: `cpu`, `cuda`, `cuda:1`, or `auto` (a GPU where there is one).

    Weights are float32 on the CPU; on a GPU bfloat16, or float16 where it cannot compute that, with
    FlashAttention 2 where it is installed. `threads` is how many compute on the CPU, for every
    model of the process; None leaves it to torch. Raises InvalidInput for another name, ModelUnavailable
    when torch or the GPU asked for is missing: `cuda` never falls back to the CPU.
    """
    require_torch()
    import torch

    kind, colon, number = name.partition(":")
    if kind not in ("cpu", "cuda", "auto") or (colon and not (kind == "cuda" and number.isdigit())):
        raise InvalidInput(f"“{name}” is no device: set cpu, cuda, cuda:0, cuda:1, ... or auto.")
    if threads is not None:
        torch.set_num_threads(threads)
    there = torch.cuda.device_count() if torch.cuda.is_available() else 0
    if kind == "cpu" or (kind == "auto" and not there):
        return Device(torch.device("cpu"), torch.float32, "sdpa")
    index = int(number or 0)
    if index >= there:
        raise ModelUnavailable(
            f"The device {name} was asked for, and this torch ({torch.__version__}) sees "
            f"{there or 'no'} GPU{'s' if there > 1 else ''}: look at nvidia-smi and at the "
            "installed torch, or set the device to cpu."
        )
    place = torch.device("cuda", index)
    major, _ = torch.cuda.get_device_capability(place)
    ampere = major >= 8
    flash = ampere and importlib.util.find_spec("flash_attn") is not None
    dtype = torch.bfloat16 if ampere else torch.float16
    return Device(place, dtype, "flash_attention_2" if flash else "sdpa")


def require_torch() -> None:
    """Raises ModelUnavailable when torch or transformers is not installed."""
    if not all(map(importlib.util.find_spec, ("torch", "transformers"))):
        raise ModelUnavailable(
            "A model in this process needs the extra torch: pip install zhinao-rag[torch]."
        )


@contextmanager
def memory(model: str, device: Device) -> Iterator[None]:
    """Turns a full GPU while loading into ModelUnavailable."""
    import torch

    try:
        yield
    except torch.OutOfMemoryError as error:
        torch.cuda.empty_cache()
        raise ModelUnavailable(
            f"{model} does not fit into the memory of {device.place}: free it from other programs, "
            "choose another device, or a smaller model."
        ) from error


def halving(
    model: str, compute: Callable[[Sequence[Row]], list[Result]]
) -> Callable[[Sequence[Row]], list[Result]]:
    """`compute`, which is given each half of a batch by itself once the whole was too much memory.

    Raises Overloaded when a half, or a single row, is too much as well.
    """

    def halved(rows: Sequence[Row]) -> list[Result]:
        import torch

        try:
            return compute(rows)
        except torch.OutOfMemoryError as error:
            full = error
        torch.cuda.empty_cache()
        half = (len(rows) + 1) // 2
        try:
            if len(rows) > 1:
                return [*compute(rows[:half]), *compute(rows[half:])]
        except torch.OutOfMemoryError as error:
            full = error
        torch.cuda.empty_cache()
        raise Overloaded(
            f"{model} has too little GPU memory for {len(rows)} texts at once, even in halves: "
            "try again when the GPU is less busy, or lower its batch tokens."
        ) from full

    return halved
