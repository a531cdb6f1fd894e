"""The progress of a training, as a checkpoint stores it."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from t2tbuild.errors import TrainingError


@dataclass
class Progress:
    """Complete epochs, steps of the current one, seconds of training, the best epoch's checkpoint, unreadable images.

    `losses` has the sum of the current epoch's losses of each rank. After the last step of an epoch, `epoch` still
    counts it as incomplete until its evaluation is done.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: str = ""
    best_accuracy: float = -1.0
    losses: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @classmethod
    def from_json(cls, values: dict[str, Any]) -> Self:
        """Return the progress of `as_json`. Raises TrainingError for forged fields or another version's."""
        try:
            found = cls(**values)
            if [type(value) for value in (found.epoch, found.step, found.best)] != [int, int, str]:
                raise TypeError
            found.losses, found.skipped = list(map(float, found.losses)), list(map(str, found.skipped))
            found.seconds, found.best_accuracy = float(found.seconds), float(found.best_accuracy)
        except (TypeError, ValueError):
            raise TrainingError("the checkpoint was written by another version of t2tbuild: start a new run") from None
        return found

    def as_json(self) -> dict[str, Any]:
        """Return the content of progress.json."""
        return asdict(self)

    def loss_sum_of(self, rank: int, world_size: int) -> float:
        """Return the sum of a rank's losses; after a change of the number of ranks, rank 0 has all of it."""
        if len(self.losses) == world_size:
            return self.losses[rank]
        return sum(self.losses) * world_size / max(1, len(self.losses)) if rank == 0 else 0.0
