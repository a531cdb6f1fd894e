"""How good trained weights are on a split of a data set."""

from collections.abc import Callable
from dataclasses import dataclass

import torch

from t2tbuild.build import build_model
from t2tbuild.errors import InputError
from t2tbuild.spec.data import FolderData
from t2tbuild.spec.root import Spec
from t2tbuild.spec.weights import Weights
from t2tbuild.training.data import SplitName, load_data
from t2tbuild.training.dataset_paths import class_folders
from t2tbuild.training.device import pick_device, pick_dtype
from t2tbuild.training.distributed import Ranks
from t2tbuild.training.loop import evaluate, evaluation_batch, memory_errors
from t2tbuild.training.resolve import locate, resolve
from t2tbuild.weights.load import load_named, other_heads


@dataclass(frozen=True)
class ClassScore:
    """Accuracy of one class, 0 to 1, by its folder's name or its number; None without images of it."""

    name: str
    accuracy: float | None


@dataclass(frozen=True)
class Score:
    """Mean cross-entropy (nats), top-1 and top-5 accuracy (0 to 1) over a split, and the accuracy of every class."""

    name: str
    weights: str
    data: str
    split: str
    images: int
    loss: float
    top1: float
    top5: float
    classes: tuple[ClassScore, ...]


def score(spec: Spec, weights: Weights, split: SplitName, heard: Callable[[int, int], None] | None = None) -> Score:
    """Evaluate `weights` in the spec's model on a split of its data, as training evaluates.

    `heard` is told how many images are done, and of how many. Raises FieldError when the data is not there, InputError
    when the weights do not fit, and TrainingError when an image cannot be read.
    """
    resolved = locate(resolve(spec))
    recipe = resolved.train
    assert recipe is not None
    device = pick_device()
    torch.manual_seed(recipe.seed)
    model = build_model(resolved.model)
    other = other_heads(model, weights.file)
    if other:
        classes = resolved.model.num_classes
        raise InputError(f"{weights.file} is not of the {classes} classes of these data: {other}")
    load_named(model, weights)
    data = load_data(recipe.data, image=resolved.model.image, in_chans=resolved.model.in_chans, device=device)
    total = data.size(split)
    message = None if heard is None else lambda done: heard(done, total)
    dtype = pick_dtype(recipe.precision, device)
    with memory_errors(lambda: "a smaller train.batch_size or image_size may fit"):
        found = evaluate(model.to(device), data, split, Ranks(device), dtype, evaluation_batch(recipe), message)
    numbers = map(str, range(data.num_classes))
    names = class_folders(recipe.data) if isinstance(recipe.data, FolderData) else numbers
    return Score(
        name=resolved.model.name,
        weights=weights.file,
        data=recipe.data.kind,
        split=split,
        images=total,
        loss=found.loss,
        top1=found.accuracy,
        top5=found.top5,
        classes=tuple(ClassScore(*one) for one in zip(names, found.per_class, strict=True)),
    )
