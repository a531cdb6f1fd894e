"""CIFAR-10 and CIFAR-100 from their authors' pickle files, held on the device as bytes."""

from functools import partial
from pathlib import Path

import numpy as np
import torch
import torch.nn.functional as F
from sklearn.model_selection import train_test_split
from torch import Tensor

from t2tbuild.errors import FieldError, InputError
from t2tbuild.layout import Grid
from t2tbuild.spec.data import CifarData
from t2tbuild.training.cifar_files import CIFAR_FILES, unpickle
from t2tbuild.training.data.dataset import SplitName
from t2tbuild.training.data.in_memory import InMemoryData, InMemorySplit, normalize, shift_and_flip
from t2tbuild.training.dataset_paths import find_cifar_folder

MEAN = (0.4914, 0.4822, 0.4465)  # of CIFAR-10's training images; the paper normalises both datasets by them
STD = (0.2023, 0.1994, 0.2010)
BLACK = tuple(-mean / std for mean, std in zip(MEAN, STD, strict=True))
SIDE = 32
SPLIT_SEED = 0  # fixed: the held-out images are part of the data, not of a run


def load_cifar(spec: CifarData, *, image: Grid, in_chans: int, device: torch.device) -> InMemoryData:
    """Load the images as bytes; each batch is resized to `image`, normalised, and for training shifted and flipped.

    Raises FieldError when the files are missing or the model does not take 3 channels, and InputError when a file is
    damaged.
    """
    if in_chans != len(MEAN):
        message = f"{spec.kind} has {len(MEAN)} channels, and the model's images {in_chans}"
        raise FieldError(("model", "in_chans"), "data-channels", message, f"write {len(MEAN)}")
    folder = find_cifar_folder(spec)
    _, train_files, test_file = CIFAR_FILES[spec.kind]
    rest, test = _read_files(folder, train_files, spec.num_classes), _read_files(folder, (test_file,), spec.num_classes)
    train, validation = rest, test
    if spec.holdout:
        train_indices, held_out = train_test_split(
            range(len(rest)), test_size=float(spec.holdout), stratify=rest.labels, random_state=SPLIT_SEED
        )
        train, validation = (
            InMemorySplit(rest.images[chosen], rest.labels[chosen]) for chosen in (train_indices, held_out)
        )
    named: dict[SplitName, InMemorySplit] = {"train": train, "validation": validation, "test": test}
    splits = {name: InMemorySplit(part.images.to(device), part.labels.to(device)) for name, part in named.items()}
    max_shift = max(image) // 8 if spec.crop_padding is None else spec.crop_padding
    return InMemoryData(
        splits,
        num_classes=spec.num_classes,
        mean=MEAN,
        std=STD,
        prepare=partial(prepare, image=image),
        augment=partial(shift_and_flip, max_shift=max_shift, hflip=float(spec.hflip), black=BLACK),
        numbers_per_sample=3,
    )


def prepare(images_BCHW: Tensor, *, image: Grid) -> Tensor:
    """Return normalised images of `image` pixels from bytes."""
    normal = normalize(images_BCHW, mean=MEAN, std=STD)
    return normal if image == (SIDE, SIDE) else F.interpolate(normal, size=tuple(image), mode="bicubic")


def _read_files(folder: Path, files: tuple[str, ...], classes: int) -> InMemorySplit:
    """Read the images [N, 3, 32, 32] and labels of some files. Raises InputError with the path of a damaged one."""
    images, labels = [], []
    for name in files:
        try:
            loaded = unpickle(folder / name)
            images.append(np.asarray(loaded["data"], dtype=np.uint8).reshape(-1, 3, SIDE, SIDE))
            labels.append(np.asarray(loaded.get("fine_labels", loaded.get("labels")), dtype=np.int64))
            if len(images[-1]) != len(labels[-1]) or not 0 <= labels[-1].min() <= labels[-1].max() < classes:
                raise ValueError("images and labels do not agree")
        except Exception as error:  # a damaged pickle can raise any type
            raise InputError(f"{folder / name}: not readable as a CIFAR file: {error}") from None
    return InMemorySplit(torch.from_numpy(np.concatenate(images)), torch.from_numpy(np.concatenate(labels)))
