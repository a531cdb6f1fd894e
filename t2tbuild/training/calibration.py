"""Calibration images for 8-bit integers, and the accuracy before and after, on the data of a spec."""

from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import nn

from t2tbuild.errors import InputError
from t2tbuild.spec.data import Streamed
from t2tbuild.spec.label_names import LabelMap
from t2tbuild.spec.root import Spec
from t2tbuild.training.data import Batch, Data, load_data
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.evaluate import FunctionModule, evaluate
from t2tbuild.training.sampler import EpochSampler
from t2tbuild.weights.preprocessing import Array
from t2tbuild.weights.whole_model import Int8, LogitsFunction

BATCH_SIZE = 16
CPU = torch.device("cpu")


@dataclass(frozen=True)
class QuantizedAccuracy:
    """Top-1 accuracy (0 to 1) on validation images of a model in float32, and of it in 8-bit integers."""

    images: int
    before: float
    after: float

    @property
    def drop(self) -> float:
        """Points of accuracy that are lost."""
        return 100 * (self.before - self.after)


class Calibration:
    """The quantization of a model on the data of its resolved spec, refused where it loses too much accuracy.

    `labels_of` has the model's class of each label of the data, where they differ. `images` training images without
    augmentation, sampled by the seed of the recipe, set the ranges of the activations. `accuracy` is measured by the
    check of `int8`.

    Raises FieldError when the data are not where the spec says.
    """

    def __init__(self, spec: Spec, labels_of: LabelMap | None, *, images: int, max_drop: float) -> None:
        assert spec.train is not None
        recipe, model = spec.train, spec.model
        found = recipe.data
        if isinstance(found, Streamed):
            found = found.model_copy(update={"augment": None})
        self.data = load_data(found, image=model.image, in_chans=model.in_chans, device=CPU)
        self.labels_of, self.images, self.max_drop, self.seed = labels_of, images, max_drop, recipe.seed
        self.shuffles = isinstance(found, Streamed)
        self.accuracy: QuantizedAccuracy | None = None

    def int8(self, built: nn.Module) -> Int8:
        """Read the images and return the quantization of a built model."""
        return Int8(list(self._images()), lambda run: self._check(built, run))

    def _images(self) -> Iterator[Array]:
        """Yield batches of normalised training images."""
        left = self.images
        for images, _ in _training_batches(self.data, left, self.seed, shuffles=self.shuffles):
            yield images[:left].numpy()
            left -= len(images)
            if left <= 0:
                return

    def _check(self, built: nn.Module, run: LogitsFunction) -> None:
        """Measure the accuracies. Raises InputError where the drop is above the limit."""
        before, after = (self._evaluate(model) for model in (built, FunctionModule(run)))
        self.accuracy = found = QuantizedAccuracy(self.data.size("validation"), before, after)
        if found.drop > self.max_drop:
            raise InputError(
                f"--int8: on {found.images} validation images the accuracy falls from {found.before:.1%} to "
                f"{found.after:.1%}, by {found.drop:.1f} points, and --max-drop is {self.max_drop:g}; nothing was "
                f"written. Try more --calibration-images, --half, or allow it: --max-drop {found.drop + 0.1:.1f}"
            )

    def _evaluate(self, model: nn.Module) -> float:
        context = DistributedContext(CPU)
        return evaluate(
            model, self.data, "validation", context, torch.float32, batch_size=BATCH_SIZE, labels_of=self.labels_of
        ).accuracy


def _training_batches(data: Data, count: int, seed: int, *, shuffles: bool) -> Iterator[Batch]:
    """Yield training images that are spread over all classes, at least `count` of them if there are so many.

    Images of files come in the order of their first epoch; those in memory, which only augmentation shuffles, at equal
    distances.
    """
    total = data.size("train")
    if not shuffles:
        distance = max(1, total // count)
        return data.eval_batches("train", rank=0, world_size=distance, batch_size=BATCH_SIZE)
    sampler = EpochSampler(total, BATCH_SIZE, seed)
    return data.train_batches(sampler, epoch=0, step=0, epochs=1)
