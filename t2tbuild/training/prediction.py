"""Prediction: the most probable classes of images, by a trained model or an exported file."""

import os
from collections import Counter
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple, Protocol

import numpy as np
import torch
from torch import Tensor, nn

from t2tbuild.build import build_model
from t2tbuild.errors import InputError, T2TBuildError, TrainingError
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.root import Spec
from t2tbuild.spec.units import plural
from t2tbuild.spec.weights import Weights
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.training.data import default_workers
from t2tbuild.training.data.dataset import CorruptImage, MapStyleSplit, read_image
from t2tbuild.training.data.evaluation_input import EvaluationInput, evaluation_input
from t2tbuild.training.data.folder import ImageFiles
from t2tbuild.training.data.loader import iterate_batches
from t2tbuild.training.device import pick_device, pick_dtype
from t2tbuild.training.evaluate import evaluation_batch_size
from t2tbuild.training.image_paths import find_images
from t2tbuild.training.loop import catch_out_of_memory
from t2tbuild.training.preprocessing import find_preprocessing
from t2tbuild.training.resolve import choose_label_names, resolve
from t2tbuild.weights.exported import ExportedModel, is_exported, open_exported
from t2tbuild.weights.load import describe_mismatched_heads, load_spec_weights
from t2tbuild.weights.resolve import WeightsSource, missing_weights, resolve_weights

TOP_K = 5
BATCH_SIZE = 32
"""Images of a batch where no recipe has a batch size."""

FEW_IMAGES = 64
"""Number of images up to which no worker processes are started to read them."""

IMAGENET_CLASSES = 1000
NO_LOGITS = np.empty((0, 0), np.float32)


class ClassScore(NamedTuple):
    """A class by its number and name, and its probability, 0 to 1."""

    label: int
    name: str
    probability: float


@dataclass(frozen=True)
class Prediction:
    """The most probable classes of an image, the most probable first.

    `pixels` [height, width, C] are bytes of the image as the model saw it, where they were asked for.
    """

    image: str
    top: tuple[ClassScore, ...]
    pixels: np.ndarray | None = None

    @property
    def best(self) -> ClassScore:
        """The most probable class."""
        return self.top[0]


@dataclass(frozen=True)
class Predictions:
    """The predictions of images in their order, and the images that cannot be read.

    Attributes:
        name: The model's name.
        weights: The file of the weights, or the exported file.
        runtime: torch and the device, or the library that ran the exported file.
        image_size: Height and width of the model's images.
        num_classes: Number of the model's classes.
        names_from: Where the names of the classes come from: "the model", "ImageNet-1k" or "numbers".
        images: A prediction for each image that can be read.
        unreadable: The others.
    """

    name: str
    weights: str
    runtime: str
    image_size: tuple[int, int]
    num_classes: int
    names_from: str
    images: tuple[Prediction, ...]
    unreadable: tuple[CorruptImage, ...] = ()

    @property
    def counts(self) -> Counter[str]:
        """The number of images by their most probable class."""
        return Counter(one.best.name for one in self.images)


class ScoredBatch(NamedTuple):
    """Images of a batch by their index, their logits [B, classes], and those that cannot be read.

    `pixels` has the bytes [height, width, C] of some of them, as the model sees them, by their index.
    """

    indices: Sequence[int]
    logits: np.ndarray
    pixels: Mapping[int, np.ndarray]
    corrupt: Sequence[CorruptImage] = ()


class Classifier(Protocol):
    """A model that classifies image files."""

    name: str
    weights: str
    runtime: str
    image_size: tuple[int, int]
    label_names: tuple[str, ...] | None
    batch_size: int

    def score(self, paths: Sequence[str], batch_size: int, keep: Collection[int]) -> Iterator[ScoredBatch]:
        """Yield the logits of image files, batch by batch; `keep` are the indices whose pixels are asked for."""
        ...


def predict(
    model: str | Path | Spec,
    images: str | Path | Sequence[str | Path],
    *,
    weights: str | Path | None = None,
    top: int = TOP_K,
    batch_size: int | None = None,
    device: str | None = None,
) -> Predictions:
    """Predict the classes of images.

    Args:
        model: A run directory, a spec with weights, or an exported file (.onnx, .pt2, .xml).
        images: Files of images, and folders of images at any depth.
        weights: A file of weights, a run, released, or hf-hub:ORG/NAME, in place of those of the run or the spec.
        top: The number of classes of each image.
        batch_size: Images that go through the model together.
        device: cpu, cuda, cuda:1 or mps; by default a GPU if there is one.

    Images are preprocessed as in the evaluation of the training. Those that cannot be read are in `unreadable`. Raises
    InputError for wrong arguments, and T2TBuildError if no image can be read.
    """
    named = [images] if isinstance(images, str | Path) else images
    found = find_images(named)
    return predict_images(open_classifier(model, weights=weights, device=device), found.paths, top, batch_size)


def open_classifier(
    model: str | Path | Spec, *, weights: str | Path | None = None, device: str | None = None
) -> Classifier:
    """Open a run, a spec or an exported file as a classifier. Raises InputError, also where there are no weights."""
    if not isinstance(model, Spec) and is_exported(model):
        if weights is not None or device not in (None, "cpu"):
            option = f"--weights {weights}" if weights is not None else f"--device {device}"
            raise InputError(f"{option}: {model} is an exported file, which has its weights and runs on the CPU")
        return ExportedClassifier(open_exported(model))
    spec = model if isinstance(model, Spec) else load_spec(model)
    path = None if isinstance(model, Spec) else model
    source = WeightsSource("", None, None) if path is None else resolve_weights(path)
    chosen = source.choose(spec, None if weights is None else str(weights))
    if chosen is None:
        raise missing_weights(path, "predict with")
    return TorchClassifier(spec, chosen, device=device)


class TorchClassifier:
    """A model of a spec with weights, on a device."""

    def __init__(self, spec: Spec, weights: Weights, *, device: str | None = None) -> None:
        spec = spec if spec.train is None else resolve(spec)
        self.label_names = choose_label_names(spec, weights)
        model = spec.model
        if self.label_names is not None:
            changes = {"num_classes": len(self.label_names), "label_names": self.label_names}
            model = with_changes(model, changes, f"loaded with {weights.file}")
        self.device = pick_device(device)
        built: nn.Module = build_model(model)
        mismatch = describe_mismatched_heads(built, weights.file)
        if mismatch:
            classes = plural(model.num_classes, "class")
            raise InputError(f"{weights.file} does not have the {classes} of {model.name}: {mismatch}; name its spec")
        load_spec_weights(built, weights)
        steps = find_preprocessing(spec.model_copy(update={"model": model}), weights, built)
        self.input: EvaluationInput = evaluation_input(steps)
        self.model = built.eval().requires_grad_(False).to(self.device)
        self.name, self.image_size = model.name, (model.image.height, model.image.width)
        self.weights = resolve_weights(weights.file).file
        self.dtype = pick_dtype("float32" if spec.train is None else spec.train.precision, self.device)
        self.runtime = f"torch, {self.device}"
        self.batch_size = BATCH_SIZE if spec.train is None else evaluation_batch_size(spec.train)

    def score(self, paths: Sequence[str], batch_size: int, keep: Collection[int]) -> Iterator[ScoredBatch]:
        """Yield the logits of image files; they are read as images of training, by worker processes if there are many.

        Raises TrainingError if a worker dies or the memory is full.
        """
        # the label of each image is its index: unreadable ones are left out of a batch
        files = ImageFiles("", [os.fsencode(path) for path in paths], np.arange(len(paths)))
        split = MapStyleSplit(files, self.input.mode, skip=0)
        loader = split.eval_loader(self.input.transform, rank=0, world_size=1, batch_size=batch_size)
        workers = default_workers() if len(paths) > FEW_IMAGES else 0
        for batch in iterate_batches(loader, workers=workers, device=self.device):
            if batch.failure:
                raise TrainingError(f"the images cannot be read: {batch.failure}")
            if not len(batch.labels):
                yield ScoredBatch((), NO_LOGITS, {}, batch.corrupt)
                continue
            with catch_out_of_memory(lambda: "a smaller batch size may fit"):
                logits = self._logits(batch.images).cpu().numpy()
            indices: list[int] = batch.labels.tolist()
            pixels = {
                index: image.permute(1, 2, 0).numpy().copy()
                for index, image in zip(indices, batch.images, strict=True)
                if index in keep
            }
            yield ScoredBatch(indices, logits, pixels, batch.corrupt)

    @torch.inference_mode()
    def _logits(self, images: Tensor) -> Tensor:
        prepared = self.input.prepare(images.to(self.device))
        with torch.autocast(self.device.type, dtype=self.dtype, enabled=self.dtype is not torch.float32):
            logits: Tensor = self.model(prepared)
        return logits.float()


class ExportedClassifier:
    """An exported file, with the preprocessing and the names of its metadata."""

    batch_size = BATCH_SIZE

    def __init__(self, exported: ExportedModel) -> None:
        info = exported.info
        self.exported, self.label_names = exported, info.label_names
        self.name, self.weights, self.runtime = info.name, str(exported.path), exported.runtime
        self.image_size = info.preprocessing.image

    def score(self, paths: Sequence[str], batch_size: int, keep: Collection[int]) -> Iterator[ScoredBatch]:
        """Yield the logits of image files, which threads read."""
        files = ImageFiles("", [os.fsencode(path) for path in paths], np.zeros(len(paths), int))
        steps = self.exported.info.preprocessing
        with ThreadPoolExecutor(max(1, default_workers())) as pool:
            for start in range(0, len(paths), batch_size):
                indices = range(start, min(start + batch_size, len(paths)))
                read = list(pool.map(lambda index: read_image(files, index, mode=steps.mode), indices))
                pairs = zip(indices, read, strict=True)
                images = {index: one[0] for index, one in pairs if not isinstance(one, CorruptImage)}
                logits = self.exported.logits(list(images.values())) if images else NO_LOGITS
                pixels = {index: steps.crop_pixels(image) for index, image in images.items() if index in keep}
                corrupt = [one for one in read if isinstance(one, CorruptImage)]
                yield ScoredBatch(list(images), logits, pixels, corrupt)


def predict_images(
    classifier: Classifier,
    paths: Sequence[str],
    top: int = TOP_K,
    batch_size: int | None = None,
    *,
    keep_pixels: Sequence[int] = (),
    on_progress: Callable[[int, int], None] | None = None,
) -> Predictions:
    """Predict the classes of image files, `keep_pixels` those whose pixels are kept, by index.

    `on_progress` is called with the number of images done and their total. Raises T2TBuildError if no image can be
    read, or if the logits are not finite.
    """
    kept, found, unreadable = set(keep_pixels), list[Prediction](), list[CorruptImage]()
    names, names_from = classifier.label_names, "the model"
    done = 0
    for batch in classifier.score(paths, batch_size or classifier.batch_size, kept):
        unreadable += batch.corrupt
        done += len(batch.indices) + len(batch.corrupt)
        if len(batch.indices):
            if not np.isfinite(batch.logits).all():
                raise T2TBuildError(f"{classifier.name}: its logits are not finite, so its weights are broken")
            if names is None:
                names, names_from = _fallback_names(batch.logits.shape[1])
            for index, logits in zip(batch.indices, batch.logits, strict=True):
                found.append(Prediction(paths[index], _top(logits, names, top), batch.pixels.get(index)))
        if on_progress is not None:
            on_progress(done, len(paths))
    if not found:
        more = f", and {len(unreadable) - 1} more" if unreadable[1:] else ""
        raise T2TBuildError(f"no image can be read: {unreadable[0]}{more}")
    return Predictions(
        name=classifier.name,
        weights=classifier.weights,
        runtime=classifier.runtime,
        image_size=classifier.image_size,
        num_classes=len(names or ()),
        names_from=names_from,
        images=tuple(found),
        unreadable=tuple(unreadable),
    )


def _fallback_names(classes: int) -> tuple[tuple[str, ...], str]:
    """Return names for classes without any: those of ImageNet-1k for a thousand, else their numbers; and which."""
    if classes != IMAGENET_CLASSES:
        return tuple(map(str, range(classes))), "numbers"
    from timm.data.imagenet_info import ImageNetInfo

    return tuple(ImageNetInfo().label_descriptions()), "ImageNet-1k"


def _top(logits: np.ndarray, names: Sequence[str], count: int) -> tuple[ClassScore, ...]:
    """Return the most probable classes by logits [classes]; equal ones in the order of their numbers."""
    exponents = np.exp(logits.astype(np.float64) - logits.max())
    shares = exponents / exponents.sum()
    best = np.argsort(-shares, kind="stable")[:count]
    return tuple(ClassScore(int(label), names[label], float(shares[label])) for label in best)
