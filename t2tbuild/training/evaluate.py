"""Evaluation: loss and accuracy of a model, in training or from a file of weights, on a split of a dataset."""

from collections.abc import Callable
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import nn

from t2tbuild.build import build_model
from t2tbuild.errors import InputError
from t2tbuild.spec.data import has_test_images
from t2tbuild.spec.root import Spec
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.weights import Weights
from t2tbuild.training.data import Data, SplitName, load_data
from t2tbuild.training.dataset_paths import class_names
from t2tbuild.training.device import pick_device, pick_dtype
from t2tbuild.training.distributed import DistributedContext
from t2tbuild.training.loop import catch_out_of_memory
from t2tbuild.training.resolve import resolve, resolve_num_classes
from t2tbuild.weights.load import describe_mismatched_heads, load_spec_weights

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
    on_progress: Callable[[int], None] | None = None,
) -> Evaluation:
    """Evaluate a model in eval mode, each rank on its share; every module then returns to its previous mode.

    `on_progress` is called after each batch with the number of images that this rank has evaluated.
    """
    modes, done = {module: module.training for module in model.modules()}, 0
    model.eval()
    loss, top5 = torch.zeros(2, dtype=torch.float64, device=distributed.device)
    correct, counted = torch.zeros(2, data.num_classes, dtype=torch.float64, device=distributed.device)
    batches = data.eval_batches(split, rank=distributed.rank, world_size=distributed.world_size, batch_size=batch_size)
    for images, labels in batches:
        with torch.autocast(images.device.type, dtype=dtype, enabled=dtype is not torch.float32):
            logits = model(images).float()
        loss += F.cross_entropy(logits, labels, reduction="sum")
        top = logits.topk(min(TOP_K, logits.shape[1])).indices
        top5 += (top == labels[:, None]).sum()
        counted.index_add_(0, labels, torch.ones_like(labels, dtype=torch.float64))
        correct.index_add_(0, labels, (top[:, 0] == labels).double())
        done += len(labels)
        if on_progress is not None:
            on_progress(done)
    for module, mode in modes.items():
        module.training = mode
    sums = distributed.all_reduce_sum([loss.item(), top5.item(), *correct.tolist(), *counted.tolist()])
    classes = data.num_classes
    class_correct, class_counts = sums[2 : 2 + classes], sums[2 + classes :]
    total = sum(class_counts)
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
    """Accuracy of one class, 0 to 1, by its folder's name or its number; None for a class without images."""

    name: str
    accuracy: float | None


@dataclass(frozen=True)
class WeightsEvaluation:
    """Mean cross-entropy (nats), top-1 and top-5 accuracy (0 to 1) over a split, and the accuracy of every class.

    `split` is the one that was evaluated: validation where the data have no test images. `skipped` are the images that
    cannot be read among those held out for validation.
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


def evaluate_weights(
    spec: Spec, weights: Weights, split: SplitName, on_progress: Callable[[int, int], None] | None = None
) -> WeightsEvaluation:
    """Evaluate `weights` in the spec's model on a split of its data, as training does.

    `on_progress` is called with the number of images done and their total. Raises FieldError when the data is missing,
    InputError when the weights do not fit, and TrainingError when an image cannot be read.
    """
    resolved = resolve_num_classes(resolve(spec))
    recipe = resolved.train
    assert recipe is not None
    device = pick_device()
    torch.manual_seed(recipe.seed)
    model = build_model(resolved.model)
    mismatch = describe_mismatched_heads(model, weights.file)
    if mismatch:
        classes = resolved.model.num_classes
        raise InputError(
            f"{weights.file} does not have the {classes} classes of this data: {mismatch}; name weights that do"
        )
    load_spec_weights(model, weights)
    data = load_data(recipe.data, image=resolved.model.image, in_chans=resolved.model.in_chans, device=device)
    split = split if split != "test" or has_test_images(recipe.data) else "validation"
    total = data.size(split)
    with catch_out_of_memory(lambda: "a smaller train.batch_size or image_size may fit"):
        found = evaluate(
            model.to(device),
            data,
            split,
            DistributedContext(device),
            pick_dtype(recipe.precision, device),
            evaluation_batch_size(recipe),
            None if on_progress is None else lambda done: on_progress(done, total),
        )
    names = class_names(recipe.data) or tuple(map(str, range(data.num_classes)))
    return WeightsEvaluation(
        name=resolved.model.name,
        weights=weights.file,
        data=recipe.data.kind,
        split=split,
        images=total - len(data.corrupt_images),
        skipped=tuple(data.corrupt_images),
        loss=found.loss,
        top1=found.accuracy,
        top5=found.top5,
        classes=tuple(ClassAccuracy(*one) for one in zip(names, found.per_class, strict=True)),
    )
