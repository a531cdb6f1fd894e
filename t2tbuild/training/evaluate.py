"""Evaluation: loss and accuracy of a model, in training or from a file of weights, on a split of a dataset."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.build import build_model
from t2tbuild.errors import InputError, TrainingError
from t2tbuild.spec.data import has_test_images
from t2tbuild.spec.label_names import LabelMap
from t2tbuild.spec.root import Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.units import plural
from t2tbuild.spec.weights import Weights
from t2tbuild.training.data import Data, SplitName, load_data
from t2tbuild.training.device import pick_device, pick_dtype, sum_dtype
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.loop import catch_out_of_memory
from t2tbuild.training.mistakes import Mistake, MistakeCollector
from t2tbuild.training.preprocessing import complete_data
from t2tbuild.training.resolve import choose_label_names, resolve_evaluation
from t2tbuild.weights.exported import ExportedModel
from t2tbuild.weights.load import describe_mismatched_heads, load_spec_weights
from t2tbuild.weights.normalized import OnNormalized
from t2tbuild.weights.preprocessing import Array

TOP_K = 5
MAX_BATCH_SIZE = 256


@dataclass(frozen=True)
class Evaluation:
    """Mean cross-entropy (nats) and accuracies (0 to 1) over a split.

    `top5` counts an image as right when its class is among the five most likely ones. `per_class` has the accuracy of
    each class, and None for a class without images.
    """

    loss: float
    accuracy: float
    top5: float
    per_class: tuple[float | None, ...]


def evaluation_batch_size(recipe: TrainSpec) -> int:
    """Return four times the images of a training pass, at most 256: evaluation saves no activations."""
    return min(MAX_BATCH_SIZE, 4 * recipe.batch_size // recipe.accumulate)


@torch.no_grad()
def evaluate(
    model: nn.Module,
    data: Data,
    split: SplitName,
    distributed: DistributedContext,
    dtype: torch.dtype,
    batch_size: int = MAX_BATCH_SIZE,
    *,
    labels_of: LabelMap | None = None,
    on_batch: Callable[[Tensor, Tensor, Tensor], None] | None = None,
) -> Evaluation:
    """Evaluate a model in eval mode, each rank on its share; every module then returns to its previous mode.

    `labels_of` has the model's class of each label of the data, where they differ. `on_batch` is called after each
    batch of this rank with its images [B, C, height, width], logits [B, classes] and the model's classes [B]. Raises
    TrainingError when no image of the split can be read.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    classes = data.num_classes if labels_of is None else labels_of.num_classes
    class_of = None if labels_of is None else torch.tensor(labels_of.classes, device=distributed.device)
    device, sums_in = distributed.device, sum_dtype(distributed.device)
    loss, top5 = torch.zeros(2, dtype=sums_in, device=device)
    correct, counted = torch.zeros(2, classes, dtype=sums_in, device=device)
    batches = data.eval_batches(split, rank=distributed.rank, world_size=distributed.world_size, batch_size=batch_size)
    for images, labels in batches:
        with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            logits = model(images).float()
        if class_of is not None:
            labels = class_of[labels]
        loss += F.cross_entropy(logits, labels, reduction="sum")
        top = logits.topk(min(TOP_K, logits.shape[1])).indices
        top5 += (top == labels[:, None]).sum()
        counted.index_add_(0, labels, torch.ones_like(labels, dtype=sums_in))
        correct.index_add_(0, labels, (top[:, 0] == labels).to(sums_in))
        if on_batch is not None:
            on_batch(images, logits, labels)
    for module, mode in modes.items():
        module.training = mode
    sums = distributed.all_reduce_sum([loss.item(), top5.item(), *correct.tolist(), *counted.tolist()])
    class_correct, class_counts = sums[2 : 2 + classes], sums[2 + classes :]
    total = sum(class_counts)
    if not total:
        last = f": {data.corrupt_images[-1]}" if data.corrupt_images else ""
        raise TrainingError(f"no image of the {split} split can be read{last}; repair the images, or hold out more")
    return Evaluation(
        loss=sums[0] / total,
        accuracy=sum(class_correct) / total,
        top5=sums[1] / total,
        per_class=tuple(
            right / count if count else None for right, count in zip(class_correct, class_counts, strict=True)
        ),
    )


@dataclass(frozen=True)
class ClassAccuracy:
    """Accuracy of one class, 0 to 1, by its name or its number; None for a class without images."""

    name: str
    accuracy: float | None


@dataclass(frozen=True)
class Confusion:
    """A class whose images were taken for another class, and how many."""

    label: str
    predicted: str
    images: int


@dataclass(frozen=True)
class WeightsEvaluation:
    """Mean cross-entropy (nats), top-1 and top-5 accuracy (0 to 1) over a split, and the accuracy of every class.

    `split` is the one that was evaluated: validation where the data have no test images. `skipped` are the images that
    cannot be read among those held out for validation. `counts` has the number of images by (class, predicted class),
    `mistakes` the most confident wrong predictions, and `missing` the classes of the model that the data does not have.
    """

    name: str
    weights: str
    data: str
    split: str
    images: int
    loss: float
    top1: float
    top5: float
    classes: tuple[ClassAccuracy, ...]
    skipped: tuple[str, ...] = ()
    counts: Mapping[tuple[int, int], int] = field(default_factory=dict)
    mistakes: tuple[Mistake, ...] = ()
    missing: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """Names of the classes, in the order of the model's outputs."""
        return tuple(one.name for one in self.classes)

    @property
    def confusions(self) -> list[Confusion]:
        """The pairs of classes that were confused, the most frequent first."""
        wrong = sorted((-count, pair) for pair, count in self.counts.items() if pair[0] != pair[1])
        names = self.names
        return [Confusion(names[label], names[predicted], -count) for count, (label, predicted) in wrong]


def evaluate_weights(
    spec: Spec,
    weights: Weights,
    split: SplitName,
    on_progress: Callable[[int, int], None] | None = None,
    *,
    device: str | None = None,
    own: Spec | None = None,
) -> WeightsEvaluation:
    """Evaluate `weights` in the spec's model on a split of its data, as training does, on a `device` by its name.

    What the data leave open of the preprocessing is that of `predict` with `own`, the spec before other data were
    named for it; left out, `spec`. Where the spec or the weights have the names of the classes, and the data too,
    labels go by name. `on_progress` is called with the number of images done and their total. Raises FieldError when
    the data is missing or has a class that the model does not know, InputError when the weights do not fit, and
    TrainingError when an image cannot be read.
    """
    resolved, labels_of = resolve_evaluation(spec, choose_label_names(spec, weights))
    recipe = resolved.train
    assert recipe is not None
    chosen = pick_device(device)
    torch.manual_seed(recipe.seed)
    model = build_model(resolved.model)
    mismatch = describe_mismatched_heads(model, weights.file)
    if mismatch:
        classes = plural(resolved.model.num_classes, "class")
        raise InputError(f"{weights.file} does not have the {classes} of this data: {mismatch}; name weights that do")
    load_spec_weights(model, weights)
    resolved = complete_data(resolved, own or spec, weights, model)
    dtype = pick_dtype(recipe.precision, chosen)
    data = _load(resolved, chosen)
    return _evaluate_model(resolved, labels_of, data, model, weights.file, split, on_progress, chosen, dtype)


def evaluate_exported(
    spec: Spec, model: ExportedModel, split: SplitName, on_progress: Callable[[int, int], None] | None = None
) -> WeightsEvaluation:
    """Evaluate an opened file on a split of the spec's data, on the CPU, as `evaluate_weights` does.

    Images are resized and cropped as the data say, also for a graph that has this inside, and normalised by the mean
    and deviation of the file. Raises InputError where the data's images have another size or other channels.
    """
    resolved, labels_of = resolve_evaluation(spec, spec.model.label_names)
    steps = model.info.preprocessing
    given, expected = (resolved.model.in_chans, *resolved.model.image), (steps.in_chans, *steps.image)
    if given != expected:
        sizes = ["{} x {} pixels with {}".format(*one[1:], plural(one[0], "channel")) for one in (expected, given)]
        raise InputError(f"{model.path}: takes images of {sizes[0]}, and the data's would be {sizes[1]}")
    cpu = torch.device("cpu")
    data = _load(resolved, cpu)
    run = FunctionModule(OnNormalized(model, data.mean, data.std))
    return _evaluate_model(resolved, labels_of, data, run, str(model.path), split, on_progress, cpu, torch.float32)


class FunctionModule(nn.Module):
    """A function of arrays as a module."""

    def __init__(self, run: Callable[[Array], Array]) -> None:
        super().__init__()
        self.run = run

    def forward(self, images: Tensor) -> Tensor:
        return torch.from_numpy(self.run(images.numpy()))


def _load(resolved: Spec, device: torch.device) -> Data:
    """Load the data of a resolved spec for its model."""
    recipe, model = resolved.train, resolved.model
    assert recipe is not None
    return load_data(recipe.data, image=model.image, in_chans=model.in_chans, device=device)


def _evaluate_model(
    resolved: Spec,
    labels_of: LabelMap | None,
    data: Data,
    model: nn.Module,
    weights: str,
    split: SplitName,
    on_progress: Callable[[int, int], None] | None,
    chosen: torch.device,
    dtype: torch.dtype,
) -> WeightsEvaluation:
    """Evaluate a model with weights on a split of a resolved spec's data."""
    recipe = resolved.train
    assert recipe is not None
    split = split if split != "test" or has_test_images(recipe.data) else "validation"
    total, collector = data.size(split), MistakeCollector()

    def on_batch(images: Tensor, logits: Tensor, labels: Tensor) -> None:
        collector.add(images, logits, labels)
        if on_progress is not None:
            on_progress(collector.seen, total)

    with catch_out_of_memory(lambda: "a smaller train.batch_size or image_size may fit"):
        found = evaluate(
            model.to(chosen),
            data,
            split,
            DistributedContext(chosen),
            dtype,
            evaluation_batch_size(recipe),
            labels_of=labels_of,
            on_batch=on_batch,
        )
    names = resolved.model.label_names or tuple(map(str, range(resolved.model.num_classes)))
    return WeightsEvaluation(
        name=resolved.model.name,
        weights=weights,
        data=recipe.data.kind,
        split=split,
        images=collector.seen,
        skipped=tuple(data.corrupt_images),
        loss=found.loss,
        top1=found.accuracy,
        top5=found.top5,
        classes=tuple(ClassAccuracy(*one) for one in zip(names, found.per_class, strict=True)),
        counts=collector.counts,
        mistakes=collector.mistakes(data, split, names),
        missing=() if labels_of is None else labels_of.missing,
    )
