"""Gaussian noise in place of images, for speed tests."""

import torch

from t2tbuild.parts import Grid
from t2tbuild.spec.data import FakeData
from t2tbuild.train.data import SplitName
from t2tbuild.train.data.held import HeldData, HeldSplit

SEED = 0  # fixed: the noise is the data set, not part of a run


def make_fake(spec: FakeData, *, image: Grid, in_chans: int, device: torch.device) -> HeldData:
    """Noise of mean 0 and deviation 1 with random labels; validation and test are the same quarter."""
    generator = torch.Generator(device).manual_seed(SEED)

    def split(samples: int) -> HeldSplit:
        images = torch.randn(samples, in_chans, *image, generator=generator, device=device)
        return HeldSplit(images, torch.randint(spec.num_classes, (samples,), generator=generator, device=device))

    train, held_out = split(spec.samples), split(max(1, spec.samples // 4))
    splits: dict[SplitName, HeldSplit] = {"train": train, "validation": held_out, "test": held_out}
    return HeldData(splits, num_classes=spec.num_classes, mean=(0.0,) * in_chans, std=(1.0,) * in_chans)
