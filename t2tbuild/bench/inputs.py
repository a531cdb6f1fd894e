"""Random inputs of a model, the same in every runtime. Torch-free, so that a process can measure one runtime alone."""

from typing import Any

import numpy as np
from numpy.typing import NDArray

from t2tbuild.weights.preprocessing import Preprocessing


def random_images(batch: int, in_chans: int, height: int, width: int) -> NDArray[np.float32]:
    """Return a batch of normal noise [batch, in_chans, height, width]."""
    return np.random.default_rng(0).standard_normal((batch, in_chans, height, width), dtype=np.float32)


def random_batch(steps: Preprocessing, batch: int) -> NDArray[Any]:
    """Return a batch of inputs of an exported file: noise, or bytes where the preprocessing is inside."""
    if not steps.inside:
        return random_images(batch, steps.in_chans, *steps.image)
    return np.random.default_rng(0).integers(0, 256, (batch, *steps.resized, steps.in_chans), dtype=np.uint8)
