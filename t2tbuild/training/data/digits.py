"""scikit-learn's handwritten digits, which need no download."""

import math

import torch
import torch.nn.functional as F
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from torch import Tensor

from t2tbuild.layout import Grid
from t2tbuild.spec.data import DigitsData
from t2tbuild.training.data.dataset import SplitName
from t2tbuild.training.data.in_memory import InMemoryData, InMemorySplit

SPLIT_SEED = 0  # fixed: the splits are part of the dataset, not of a run
HELD_OUT = 270  # images of validation, and of test
SIDE, MAX_VALUE = 8, 16  # of an image as it is stored
MAX_ROTATION = math.radians(10)
MAX_SHIFT = 0.1  # of the image's size
MAX_SCALING = 0.1


def _enlarge(images_B1HW: Tensor, image: Grid) -> Tensor:
    return F.interpolate(images_B1HW, size=tuple(image), mode="bicubic", align_corners=False)


def load_digits_data(spec: DigitsData, *, in_chans: int, device: torch.device) -> InMemoryData:
    """Load the digits, resized and normalised once, their gray channel repeated `in_chans` times."""
    digits = load_digits()
    images = torch.from_numpy(digits.images).float()[:, None] / MAX_VALUE
    labels = torch.from_numpy(digits.target).long()
    rest, test = train_test_split(range(len(labels)), test_size=HELD_OUT, stratify=labels, random_state=SPLIT_SEED)
    train, validation = train_test_split(rest, test_size=HELD_OUT, stratify=labels[rest], random_state=SPLIT_SEED)
    mean, std = images[train].mean(), images[train].std()
    images = _enlarge((images - mean) / std, Grid(spec.image_size, spec.image_size)).expand(-1, in_chans, -1, -1)

    def split(indices: list[int]) -> InMemorySplit:
        return InMemorySplit(images[indices].contiguous().to(device), labels[indices].to(device))

    splits: dict[SplitName, InMemorySplit] = {
        "train": split(train),
        "validation": split(validation),
        "test": split(test),
    }
    return InMemoryData(
        splits,
        num_classes=spec.num_classes,
        mean=(mean.item(),) * in_chans,
        std=(std.item(),) * in_chans,
        augment=_augment if spec.augment else None,
        numbers_per_sample=4,
    )


def _augment(images_BCHW: Tensor, numbers_B4: Tensor) -> Tensor:
    """Rotate, scale and shift each image by its own numbers. Its channels are equal, so one is sampled and repeated."""
    rotation, scale, down, across = (numbers_B4 * 2 - 1).unbind(1)
    cos, sin = (
        (rotation * MAX_ROTATION).cos() * (1 + scale * MAX_SCALING),
        (rotation * MAX_ROTATION).sin() * (1 + scale * MAX_SCALING),
    )
    rows = [torch.stack(row, dim=1) for row in ((cos, -sin, across * 2 * MAX_SHIFT), (sin, cos, down * 2 * MAX_SHIFT))]
    gray_B1HW = images_BCHW[:, :1]
    grid = F.affine_grid(torch.stack(rows, dim=1), list(gray_B1HW.shape), align_corners=False)
    augmented = F.grid_sample(gray_B1HW, grid, padding_mode="border", align_corners=False)
    return augmented.repeat(1, images_BCHW.shape[1], 1, 1)
