"""Predict the memory of a model in closed form: weights, gradients, the optimiser's state, activations."""

from dataclasses import dataclass

from t2tbuild.cost.bisection import largest
from t2tbuild.cost.peaks import inference_peak, saved_bytes, training_peak
from t2tbuild.dtype import Precision
from t2tbuild.spec.model import ModelSpec
from t2tbuild.symbolic.forward import FULL, Forward
from t2tbuild.symbolic.leaf import Counted
from t2tbuild.symbolic.model import record

MAX_BATCH_SIZE = 2**20
"""The upper limit of `largest_batch`."""


@dataclass(frozen=True)
class Memory:
    """The memory of a step in bytes.

    Attributes:
        parameters: All parameters, 4 bytes each.
        gradients: 4 bytes per trained parameter.
        optimizer: AdamW's two moments, 8 bytes per trained parameter.
        activations: What the forward pass saves for the backward pass.
        inference: The peak of a forward pass, including weights and the batch's images.
        training: The peak of a training step, including weights, images and the optimiser's state.
    """

    parameters: int
    gradients: int
    optimizer: int
    activations: int
    inference: int
    training: int


def predict_memory(model: ModelSpec, batch_size: int = 1, precision: Precision = Precision.FLOAT32) -> Memory:
    """Predict the memory of a step from the list of its operations, without torch's workspaces and fragmentation.

    dtypes, dropout masks and AdamW's loop over parameters are those of torch on a CPU. On CUDA, autocast computes norms
    in float32, masks take one byte per element, tokens are unfolded for the whole batch, and AdamW updates all
    parameters at once, which takes up to 4 bytes per parameter more.

    inference = parameters + images + the largest sum of live values. training = parameters + moments + images + the
    larger of two peaks: forward and backward, where activations are freed as gradients grow; and the optimiser's
    update, with all gradients and two temporaries of the largest parameter.

        >>> from t2tbuild import load_spec
        >>> predict_memory(load_spec("t2t_vit_14").model, 64).training // 10**6
        3723
    """
    inference, training = (record(model, batch_size, precision.width, training=mode) for mode in (False, True))
    _, _, trained, frozen = Counted.of(*training.leaves)
    return Memory(
        parameters=(trained + frozen) * FULL,
        gradients=trained * FULL,
        optimizer=2 * trained * FULL,
        activations=saved_bytes(training.steps),
        inference=_peak(model, inference),
        training=_peak(model, training),
    )


def _peak(model: ModelSpec, f: Forward) -> int:
    """Return the peak bytes of an inference or a training step, including weights, images and the optimiser's state."""
    _, _, trained, frozen = Counted.of(*f.leaves)
    constant = (trained + frozen + f.batch_size * model.in_chans * model.image.tokens) * FULL
    if not f.training:
        return constant + inference_peak(f.steps)
    update = trained + 2 * max(leaf.trained for leaf in f.leaves)
    return constant + 2 * trained * FULL + max(training_peak(f.steps), update * FULL)


def largest_batch(model: ModelSpec, memory: int, precision: Precision, *, training: bool) -> int | None:
    """Return the largest batch size up to MAX_BATCH_SIZE whose peak is at most `memory` bytes; None if 1 is more."""

    def fits(batch_size: int) -> bool:
        return _peak(model, record(model, batch_size, precision.width, training=training)) <= memory

    over = next((2**power for power in range(21) if not fits(2**power)), MAX_BATCH_SIZE + 1)
    return largest(range(1, over), fits)
