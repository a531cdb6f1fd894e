"""The train section of a spec: the data and the recipe. Every field has a default that suits small data."""

from collections.abc import Iterator
from typing import Literal

from pydantic import Field

from t2tbuild.spec.base import Broken, Node, rule, unit


class DigitsData(Node):
    """scikit-learn's handwritten digits: 1,797 real images of 10 classes, which come with the library.

    A fixed stratified split gives 1,257 for training, 270 for validation and 270 for test. The 8 x 8 images are
    enlarged to `image_size` and repeated over the model's input channels.
    """

    kind: Literal["digits"] = "digits"
    """The digits of scikit-learn."""
    image_size: int = Field(default=64, ge=8, le=512, examples=[64], json_schema_extra=unit("pixels"))
    """Pixels of the square image's side; the trained model takes images of this size."""
    augment: bool = True
    """Shift, turn and scale the training images a little, differently in each epoch."""

    @property
    def num_classes(self) -> int:
        return 10


class TrainSpec(Node):
    """The recipe: AdamW, linear warm-up, then a cosine to `min_lr` (Section 4 of the paper; the values suit digits)."""

    data: DigitsData = Field(default=DigitsData(), examples=[{"kind": "digits", "image_size": 64}])
    """What is trained on."""
    epochs: int = Field(default=15, ge=1, le=100_000, examples=[15], json_schema_extra=unit("epochs"))
    """Passes over the training split."""
    batch_size: int = Field(default=64, ge=1, le=65536, examples=[64], json_schema_extra=unit("images"))
    """Images in a step; the last incomplete batch of an epoch is left out."""
    lr: int | float = Field(default=1e-3, gt=0, le=10, examples=[1e-3])
    """Peak learning rate."""
    min_lr: int | float = Field(default=1e-5, ge=0, le=10, examples=[1e-5])
    """Learning rate at the end of the cosine, and at the start of the warm-up."""
    warmup_epochs: int | float | None = Field(default=None, ge=0, examples=[1.5], json_schema_extra=unit("epochs"))
    """Length of the linear warm-up, in epochs; left out, a tenth of all epochs."""
    weight_decay: int | float = Field(default=0.05, ge=0, le=10, examples=[0.05])
    """Weight decay of matrices; biases, norms and the class token have none."""
    label_smoothing: int | float = Field(default=0.1, ge=0, lt=1, examples=[0.1])
    """Share of the target spread evenly over all classes."""
    clip_grad: int | float | None = Field(default=1.0, gt=0, examples=[1.0])
    """Largest norm of the whole gradient; null leaves it alone."""
    seed: int = Field(default=0, ge=0, lt=2**32, examples=[0])
    """Seed of the weights, of the order of samples and of their augmentation."""

    @rule
    def _warmup_below_epochs(self) -> Iterator[Broken]:
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            told = f"warmup_epochs must be below epochs, got {self.warmup_epochs} and {self.epochs}"
            yield Broken("warmup_epochs", told, f"write at most {self.epochs - 1}")

    @rule
    def _min_lr_below_lr(self) -> Iterator[Broken]:
        if self.min_lr > self.lr:
            told = f"min_lr must not be above lr, got {self.min_lr} and {self.lr}"
            yield Broken("min_lr", told, f"write {self.lr / 100:g}")

    @property
    def warmup(self) -> float:
        """Epochs of warm-up."""
        return self.epochs / 10 if self.warmup_epochs is None else self.warmup_epochs
