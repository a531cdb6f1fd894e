"""Predict the memory of a model in closed form: weights, gradients, the optimiser's state, activations."""

from collections.abc import Sequence
from dataclasses import dataclass

from t2tbuild.cost.bisection import largest
from t2tbuild.cost.closed_form import predict_cost
from t2tbuild.cost.model import EVERY_LEVEL, Cost, PartCost
from t2tbuild.cost.program import Program, inference_peak, saved_bytes, training_peak
from t2tbuild.cost.recorder import FULL
from t2tbuild.cost.trace import trace
from t2tbuild.dtype import Precision
from t2tbuild.spec.model import ModelSpec

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
    cost = predict_cost(model, EVERY_LEVEL)
    gradients = cost.trainable_params * FULL
    inference, training = (trace(model, batch_size, precision.width, training=mode) for mode in (False, True))
    return Memory(
        parameters=cost.params * FULL,
        gradients=gradients,
        optimizer=2 * gradients,
        activations=saved_bytes(training),
        inference=_inference(model, cost, batch_size, inference),
        training=_training(model, cost, batch_size, training),
    )


def _inference(model: ModelSpec, cost: Cost, batch_size: int, program: Program) -> int:
    return cost.params * FULL + _images(model, batch_size) + inference_peak(program)


def _training(model: ModelSpec, cost: Cost, batch_size: int, program: Program) -> int:
    gradients = cost.trainable_params * FULL
    constant = cost.params * FULL + 2 * gradients + _images(model, batch_size)
    return constant + max(training_peak(program), gradients + 2 * _largest(cost.parts) * FULL)


def _images(model: ModelSpec, batch_size: int) -> int:
    return batch_size * model.in_chans * model.image.tokens * FULL


def _largest(parts: Sequence[PartCost]) -> int:
    """Return the number of trained parameters of the largest layer."""
    return max((_largest(part.parts) if part.parts else part.trainable_params for part in parts), default=0)


def largest_batch(model: ModelSpec, memory: int, precision: Precision, *, training: bool) -> int | None:
    """Return the largest batch size up to MAX_BATCH_SIZE whose peak is at most `memory` bytes; None if 1 is more."""
    cost, peak = predict_cost(model, EVERY_LEVEL), _training if training else _inference

    def fits(batch_size: int) -> bool:
        program = trace(model, batch_size, precision.width, training=training)
        return peak(model, cost, batch_size, program) <= memory

    over = next((2**power for power in range(21) if not fits(2**power)), MAX_BATCH_SIZE + 1)
    return largest(range(1, over), fits)
