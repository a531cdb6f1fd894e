"""Gaussian noise in place of images, for speed tests."""

import torch

from t2tbuild.layout import Grid
from t2tbuild.spec.data import FakeData
from t2tbuild.training.data.dataset import SplitName
from t2tbuild.training.data.in_memory import InMemoryData, InMemorySplit

SEED = 0  # fixed: the noise is the dataset, not part of a run


def load_fake(spec: FakeData, *, image: Grid, in_chans: int, device: torch.device) -> InMemoryData:
    """Draw images of mean 0 and deviation 1 with random labels; validation and test are the same quarter."""
    generator = torch.Generator(device).manual_seed(SEED)

    def draw_split(samples: int) -> InMemorySplit:
        images = torch.randn(samples, in_chans, *image, generator=generator, device=device)
        return InMemorySplit(images, torch.randint(spec.num_classes, (samples,), generator=generator, device=device))

    train, held_out = draw_split(spec.samples), draw_split(max(1, spec.samples // 4))
    splits: dict[SplitName, InMemorySplit] = {"train": train, "validation": held_out, "test": held_out}
    return InMemoryData(splits, num_classes=spec.num_classes, mean=(0.0,) * in_chans, std=(1.0,) * in_chans)
