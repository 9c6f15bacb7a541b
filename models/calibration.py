"""The constants of ranking and refusal that were measured for the bundled embedder."""

import functools
import json
from importlib.resources import files

import numpy as np

from pipeline.calibration import Background, Calibration
from pipeline.types import Script

REFUSE_BELOW = 0.88
BACKGROUND = "e5_background.npz"


@functools.cache
def e5_calibration() -> Calibration:
    """Weights and threshold from docs/quality.md; the background is fitted by bench/fit_background.py."""
    with (files("models") / "data" / BACKGROUND).open("rb") as file:
        stored = np.load(file, allow_pickle=False)
        means = dict(zip(Script, stored["means"], strict=True))
        shares = json.loads(stored["shares"].tobytes())
    return Calibration(Background(means, shares), refuse_below=REFUSE_BELOW)
