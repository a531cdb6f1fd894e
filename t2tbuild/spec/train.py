"""The train section of a spec: the data and the training recipe. The defaults are for small data."""

from collections.abc import Iterator
from typing import Annotated, Literal, get_args

from pydantic import Field

from t2tbuild.spec.backbone import nearest_divisors
from t2tbuild.spec.base import ListAsTuple, Node, Seconds, Violation, lint, rule, unit
from t2tbuild.spec.data import CifarData, DataField, DigitsData, FakeData, Share
from t2tbuild.spec.distill import Distillation
from t2tbuild.spec.optimizer import AdamW, LrScale, ModelPart, OptimizerField

IN_MEMORY = (DigitsData, CifarData, FakeData)
"""Data with a known number of images."""


class Mixup(Node):
    """Mixup (Zhang et al., ICLR 2018) and CutMix (Yun et al., ICCV 2019): pairs of images of a batch are mixed."""

    mixup: int | float = Field(default=0.8, ge=0, le=100, examples=[0.8])
    """Alpha of mixup's Beta distribution; 0 disables mixup."""
    cutmix: int | float = Field(default=1.0, ge=0, le=100, examples=[1.0])
    """Alpha of CutMix's Beta distribution; 0 disables CutMix."""
    prob: Share = Field(default=1.0, examples=[1.0])
    """Probability that a batch is mixed."""
    switch_prob: Share = Field(default=0.5, examples=[0.5])
    """Probability of CutMix instead of mixup, if both are enabled."""

    @rule
    def _mixes_something(self) -> Iterator[Violation]:
        if not self.mixup and not self.cutmix:
            yield Violation("mixup", "mixup and cutmix are both 0", "write mixup: 0.8, or remove mixup")
        if not self.prob:
            yield Violation("prob", "with prob 0 no batch is mixed", "write prob: 1, or remove mixup")


class TrainSpec(Node):
    """The recipe: warm-up, then cosine decay to `min_lr` (Section 4 of the paper). The defaults are for digits."""

    data: DataField = Field(default=DigitsData(), examples=[{"kind": "digits", "image_size": 64}])
    """Training data."""
    epochs: int = Field(default=15, ge=1, le=100_000, examples=[300], json_schema_extra=unit("epochs"))
    """Passes over the training split, until the end of the cosine schedule."""
    cooldown_epochs: int = Field(default=0, ge=0, le=100_000, examples=[10], json_schema_extra=unit("epochs"))
    """Additional passes at min_lr."""
    batch_size: int = Field(default=64, ge=1, le=1_048_576, examples=[512], json_schema_extra=unit("images"))
    """Images of one optimiser step, over all devices. The last incomplete batch of an epoch is dropped."""
    accumulate: int = Field(default=1, ge=1, le=65536, examples=[4], json_schema_extra=unit("passes"))
    """Gradient accumulation: forward and backward passes per optimiser step on each device, to save memory."""
    optimizer: OptimizerField = Field(default=AdamW(), examples=["adamw"])
    """Optimiser."""
    lr: int | float = Field(default=1e-3, gt=0, le=10, examples=[5e-4])
    """Peak learning rate for this batch_size."""
    min_lr: int | float = Field(default=1e-5, ge=0, le=10, examples=[1e-5])
    """Learning rate at the end of the cosine schedule."""
    warmup_lr: int | float | None = Field(default=None, ge=0, le=10, examples=[1e-6])
    """Learning rate at the start of the warm-up; left out, min_lr."""
    warmup_epochs: int | float | None = Field(default=None, ge=0, examples=[10], json_schema_extra=unit("epochs"))
    """Length of the linear warm-up; left out, a tenth of epochs."""
    weight_decay: int | float = Field(default=0.05, ge=0, le=10, examples=[0.05])
    """Weight decay of matrices. Biases, norms and the class token have none."""
    lr_scale: LrScale | None = Field(default=None, examples=[{"tokenizer": 0.01, "backbone": 0.01, "head": 1}])
    """Factors of lr for the parts of the model, for fine-tuning."""
    layer_decay: int | float | None = Field(default=None, gt=0, lt=1, examples=[0.75])
    """Layer-wise decay of the learning rate: factor from each block to the one before it, for fine-tuning."""
    freeze: Annotated[tuple[ModelPart, ...], ListAsTuple] = Field(default=(), examples=[["tokenizer"]])
    """Parts of the model that are not trained."""
    label_smoothing: int | float = Field(default=0.1, ge=0, lt=1, examples=[0.1])
    """Label smoothing: fraction of the target that is spread over all classes."""
    mixup: Mixup | None = Field(default=None, examples=[{"mixup": 0.8, "cutmix": 1.0}])
    """Mixup and CutMix; left out, none."""
    drop_path: Share | None = Field(default=None, lt=1, examples=[0.1])
    """Stochastic depth: drop probability of the last block, rising linearly from 0; left out, the model's own."""
    clip_grad: int | float | None = Field(default=1.0, gt=0, examples=[1.0])
    """Largest norm of the gradient; null disables clipping, as in the paper."""
    ema: int | float | None = Field(default=None, gt=0, lt=1, examples=[0.99996])
    """Decay of the averaged weights (EMA), which are then evaluated and saved; left out, none."""
    distill: Distillation | None = Field(default=None, examples=[{"teacher": "timm:regnety_160.deit_in1k"}])
    """Distillation from a teacher; left out, none."""
    precision: Literal["auto", "float32", "bfloat16", "float16"] = "auto"
    """Precision of matrix products, by autocast; weights stay float32. float16 scales the loss. auto is bfloat16 on a
    GPU that supports it, otherwise float32."""
    tf32: bool = False
    """Whether a GPU may round float32 matrix products to TF32."""
    channels_last: bool = False
    """Whether to use the channels-last memory format, which makes convolutional models faster on a GPU."""
    compile: bool = False
    """Whether to use torch.compile, which takes a minute or more at the start."""
    checkpoint_gradients: bool = False
    """Gradient checkpointing: whether blocks are recomputed in the backward pass, to save memory."""
    save_every: Seconds = Field(default=600.0, examples=["10m"], json_schema_extra=unit("seconds"))
    """Longest time between two checkpoints. There is always one at the end of an epoch."""
    seed: int = Field(default=0, ge=0, lt=2**32, examples=[0])
    """Seed of the weights, the order of samples and their augmentation."""

    @rule
    def _warmup_below_epochs(self) -> Iterator[Violation]:
        if self.warmup_epochs is not None and self.warmup_epochs >= self.epochs:
            message = f"warmup_epochs must be below epochs, got {self.warmup_epochs} and {self.epochs}"
            yield Violation("warmup_epochs", message, f"write at most {self.epochs - 1}")

    @rule
    def _min_lr_below_lr(self) -> Iterator[Violation]:
        if self.min_lr > self.lr:
            message = f"min_lr must not be above lr, got {self.min_lr} and {self.lr}"
            yield Violation("min_lr", message, f"write {self.lr / 100:g}")

    @rule
    def _warmup_rises(self) -> Iterator[Violation]:
        if self.warmup_lr is not None and self.warmup_lr > self.lr:
            message = f"warmup_lr must not be above lr, got {self.warmup_lr} and {self.lr}"
            yield Violation("warmup_lr", message, f"write {self.lr / 100:g}")

    @rule
    def _accumulate_divides_batch(self) -> Iterator[Violation]:
        if self.batch_size % self.accumulate:
            message = f"batch_size must be divisible by accumulate, got {self.batch_size} and {self.accumulate}"
            hint = f"nearest that work: {nearest_divisors(self.batch_size, self.accumulate)}"
            yield Violation("accumulate", message, hint)

    @rule
    def _mixup_needs_pairs(self) -> Iterator[Violation]:
        if self.mixup is not None and self.batch_size % 2:
            message = f"mixup pairs the images of a batch, and batch_size {self.batch_size} is odd"
            yield Violation("batch_size", message, f"write {self.batch_size + 1}")

    @rule
    def _one_kind_of_lr_scaling(self) -> Iterator[Violation]:
        if self.lr_scale is not None and self.layer_decay is not None:
            yield Violation("layer_decay", "lr_scale and layer_decay both set learning rates", "remove one of them")

    @rule
    def _something_is_trained(self) -> Iterator[Violation]:
        scale = self.lr_scale
        zero_lr = {name for name in get_args(ModelPart) if scale is not None and not getattr(scale, name)}
        if zero_lr.union(self.freeze) == set(get_args(ModelPart)):
            message = (
                f"every part is frozen{' or has a learning rate of 0' if zero_lr else ''}: nothing would be trained"
            )
            yield Violation(
                *(("lr_scale", message, "write head: 1") if zero_lr else ("freeze", message, "remove the head"))
            )

    @rule
    def _no_part_twice(self) -> Iterator[Violation]:
        for index, part in enumerate(self.freeze):
            if part in self.freeze[:index]:
                yield Violation(("freeze", index), f"freeze lists {part} twice", "remove one of the two")

    @lint
    def _short_average(self) -> Iterator[Violation]:
        if self.ema is not None and isinstance(self.data, IN_MEMORY):
            steps = self.all_epochs * max(1, self.data.train_images // self.batch_size)
            if 1 / (1 - self.ema) > steps:
                message = f"ema {self.ema} averages over {1 / (1 - self.ema):,.0f} steps, and there are {steps:,}"
                shorter = f"write {1 - 10 / steps:.3g}, or " if steps > 10 else ""
                yield Violation("ema", message, f"{shorter}remove it")

    @lint
    def _batch_above_data(self) -> Iterator[Violation]:
        if isinstance(self.data, IN_MEMORY) and self.batch_size > self.data.train_images:
            message = f"batch_size {self.batch_size:,} is above the {self.data.train_images:,} training images"
            yield Violation("batch_size", message, f"write at most {self.data.train_images}")

    @lint
    def _warmup_lr_unused(self) -> Iterator[Violation]:
        if self.warmup_lr is not None and self.warmup_epochs == 0:
            yield Violation("warmup_lr", "warmup_lr has no effect with warmup_epochs 0", "remove it")

    @property
    def warmup(self) -> float:
        """Length of the warm-up in epochs."""
        return self.epochs / 10 if self.warmup_epochs is None else self.warmup_epochs

    @property
    def all_epochs(self) -> int:
        """Total number of passes over the training split."""
        return self.epochs + self.cooldown_epochs
