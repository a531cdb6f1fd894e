"""Which samples a step takes, and the seeds of all that is random: functions of the seed and the place in training."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor


@dataclass(frozen=True)
class EpochSampler:
    """Which samples a step takes: a function of (seed, epoch). A rank's share is a slice of the step's batch.

    The last incomplete batch of an epoch is left out, unless there are fewer samples than one batch has.
    """

    samples: int
    batch_size: int
    seed: int
    rank: int = 0
    ranks: int = 1

    @property
    def share(self) -> int:
        """Images of a rank in a step."""
        return min(self.batch_size, self.samples) // self.ranks

    @property
    def steps(self) -> int:
        """Steps of an epoch."""
        return self.samples // (self.share * self.ranks)

    def indices(self, epoch: int, step: int) -> list[int]:
        """This rank's samples in a step of an epoch, both counted from 0."""
        start = (step * self.ranks + self.rank) * self.share
        chosen: list[int] = _permutation(self.samples, self.seed, epoch)[start : start + self.share].tolist()
        return chosen


@lru_cache(maxsize=2)
def _permutation(samples: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(samples, generator=torch.Generator().manual_seed(fold_in(seed, epoch)))


@lru_cache(maxsize=2)
def numbers(samples: int, seed: int, epoch: int, each: int) -> Tensor:
    """[samples, each] numbers from 0 to 1 by which the samples of an epoch are varied."""
    return torch.rand(samples, each, generator=torch.Generator().manual_seed(fold_in(seed, epoch, 1)))


def fold_in(*parts: int) -> int:
    """One seed of several whole numbers; a change of any gives an unrelated one."""
    seed = 0
    for part in parts:
        seed = ((seed ^ part) * 0x9E3779B97F4A7C15 + 0x2545F4914F6CDD1D) % 2**63
    return seed
