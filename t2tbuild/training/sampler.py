"""The samples of each step: a function of the seed and the position in training."""

from dataclasses import dataclass
from functools import lru_cache

import torch
from torch import Tensor

from t2tbuild.training.seeds import fold_in


@dataclass(frozen=True)
class EpochSampler:
    """The sample indices of each step: a function of (seed, epoch). Each rank has a slice of the step's batch.

    The last incomplete batch of an epoch is dropped. If there are fewer samples than `batch_size`, a batch has all of
    them.
    """

    num_samples: int
    batch_size: int
    seed: int
    rank: int = 0
    world_size: int = 1

    @property
    def local_batch_size(self) -> int:
        """Images of one rank in a step."""
        return min(self.batch_size, self.num_samples) // self.world_size

    @property
    def steps_per_epoch(self) -> int:
        """Steps of an epoch."""
        return self.num_samples // (self.local_batch_size * self.world_size)

    def indices(self, epoch: int, step: int) -> list[int]:
        """Return this rank's sample indices in a step of an epoch, both counted from 0."""
        start = (step * self.world_size + self.rank) * self.local_batch_size
        order = _permutation(self.num_samples, self.seed, epoch)
        chosen: list[int] = order[start : start + self.local_batch_size].tolist()
        return chosen


@lru_cache(maxsize=2)
def _permutation(num_samples: int, seed: int, epoch: int) -> Tensor:
    return torch.randperm(num_samples, generator=torch.Generator().manual_seed(fold_in(seed, epoch)))


@lru_cache(maxsize=2)
def uniform_numbers(num_samples: int, seed: int, epoch: int, per_sample: int) -> Tensor:
    """Draw [num_samples, per_sample] numbers from 0 to 1, which augment the samples of an epoch."""
    generator = torch.Generator().manual_seed(fold_in(seed, epoch, 1))
    return torch.rand(num_samples, per_sample, generator=generator)
