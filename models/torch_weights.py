"""Loads the weights of a published or converted folder into a class of transformers."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from logging import CRITICAL, getLogger
from pathlib import Path
from typing import TYPE_CHECKING, Any

from models.checkpoint.source import open_tensors, weight_files
from models.device import Device, memory
from pipeline.errors import ModelUnavailable

if TYPE_CHECKING:
    import torch

_AGAIN = "download it again with `zhinao models pull`"


def tensors(folder: Path, wanted: Callable[[str], bool] = bool) -> dict[str, "torch.Tensor"]:
    """The wanted tensors of all weight files, mapped from the disk where the format allows.

    Raises NotFound or an InvalidInput when a file is missing, truncated or no weights.
    """
    found: dict[str, torch.Tensor] = {}
    for file in weight_files(folder):
        with open_tensors(folder / file) as stored:
            names = [entry.name for entry in stored.entries() if wanted(entry.name)]
            found.update({name: stored.get(name) for name in names})
    return found


def fill(
    model_class: Any,  # noqa: ANN401  transformers ships no types
    config: Any,  # noqa: ANN401
    weights: dict[str, "torch.Tensor"],
    *,
    folder: Path,
    device: Device,
    **more: object,
) -> Any:  # noqa: ANN401
    """A model of the class with these weights, on its device and ready to be asked.

    Raises ModelUnavailable naming the tensors that are missing or of another shape, and when the
    GPU's memory is too small.
    """
    with memory(f"The model {folder}", device), quiet():
        try:
            model, report = model_class.from_pretrained(
                None,
                config=config,
                state_dict=weights,
                dtype=device.dtype,
                attn_implementation=device.attention,
                output_loading_info=True,
                **more,
            )
        except RuntimeError as error:
            if type(error) is not RuntimeError:  # out of memory is one of its kinds
                raise
            raise ModelUnavailable(
                f"the weights in {folder} have other shapes than its config.json says: {_AGAIN}."
            ) from error
        if report["missing_keys"]:
            missing = sorted(report["missing_keys"])
            named = ", ".join(missing[:3]) + (", ..." if len(missing) > 3 else "")
            raise ModelUnavailable(
                f"the weights in {folder} lack {len(missing)} tensors ({named}): {_AGAIN}."
            )
        return model.to(device.place).eval()


@contextmanager
def quiet() -> Iterator[None]:
    """transformers without progress bars and reports: what is wrong is raised as our error."""
    from transformers.utils import logging

    theirs: Any = logging

    bars = theirs.is_progress_bar_enabled()
    logger = getLogger("transformers")
    level = logger.level
    theirs.disable_progress_bar()
    logger.setLevel(CRITICAL)
    try:
        yield
    finally:
        logger.setLevel(level)
        if bars:
            theirs.enable_progress_bar()
