"""Images in memory on the training device: splits, and batches that are functions of a seed."""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from t2tbuild.spec.data import DigitsData

SPLIT_SEED = 0  # fixed: the splits are part of the data set, not of a run
HELD_OUT = 270  # images of validation, and of test
TURN = math.radians(10)  # augmentation: the largest turn, shift (in images) and change of size
SHIFT = 0.1
SCALE = 0.1


@dataclass(frozen=True)
class Split:
    """Normalised images [N, C, height, width] in float32 and their class numbers [N]."""

    images: Tensor
    labels: Tensor

    def __len__(self) -> int:
        return len(self.labels)


@dataclass(frozen=True)
class ImageData:
    """A data set that fits the device: what is trained on, what choices are made on, and what is touched once."""

    train: Split
    validation: Split
    test: Split
    augment: bool


def load_data(spec: DigitsData, *, in_chans: int, device: torch.device) -> ImageData:
    """Load the data set that `spec` names onto `device`, its images with `in_chans` channels."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / 16
    labels = torch.from_numpy(digits.target).long()
    rest, test = train_test_split(range(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=SPLIT_SEED)
    train, validation = train_test_split(rest, test_size=HELD_OUT, stratify=labels[rest], random_state=SPLIT_SEED)
    mean, std = images[train].mean(), images[train].std()
    images = F.interpolate((images - mean) / std, size=(spec.image_size,) * 2, mode="bicubic", align_corners=False)
    images = images.expand(-1, in_chans, -1, -1)

    def split(indices: list[int]) -> Split:
        return Split(images[indices].contiguous().to(device), labels[indices].to(device))

    return ImageData(split(train), split(validation), split(test), spec.augment)


def batches(data: ImageData, *, batch_size: int, seed: int, epoch: int) -> Iterator[tuple[Tensor, Tensor]]:
    """One epoch of training batches: images [B, C, height, width] and labels [B].

    The order is a function of (seed, epoch), the augmentation of a sample one of (seed, epoch, its index). The last
    incomplete batch is left out, unless the split is smaller than one batch.
    """
    split, size = data.train, min(batch_size, len(data.train))
    generator = torch.Generator().manual_seed(mix(seed, epoch))
    order = torch.randperm(len(split), generator=generator)
    moves = torch.rand(len(split), 4, generator=generator) * 2 - 1
    for start in range(0, len(split) - size + 1, size):
        indices = order[start : start + size]
        images, labels = split.images[indices.to(split.labels.device)], split.labels[indices.to(split.labels.device)]
        yield (_move(images, moves[indices].to(images.device)) if data.augment else images), labels


def batches_in_epoch(data: ImageData, batch_size: int) -> int:
    """How many batches `batches` yields."""
    return len(data.train) // min(batch_size, len(data.train))


def mix(*numbers: int) -> int:
    """One seed of several whole numbers; a change of any gives an unrelated one."""
    seed = 0
    for number in numbers:
        seed = ((seed ^ number) * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**63
    return seed


def _move(images_BCHW: Tensor, moves_B4: Tensor) -> Tensor:
    """Turn, scale and shift each image by its own numbers in [-1, 1]."""
    turn, scale, down, across = moves_B4.unbind(1)
    cos, sin = (turn * TURN).cos() * (1 + scale * SCALE), (turn * TURN).sin() * (1 + scale * SCALE)
    rows = [torch.stack(row, dim=1) for row in ((cos, -sin, across * 2 * SHIFT), (sin, cos, down * 2 * SHIFT))]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(images_BCHW.shape), align_corners=False)
    return F.grid_sample(images_BCHW, grid, padding_mode="border", align_corners=False)
