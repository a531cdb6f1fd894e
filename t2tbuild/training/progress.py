"""How far a training is, as a checkpoint keeps it."""

from dataclasses import asdict, dataclass, field
from typing import Any, Self

from t2tbuild.errors import TrainingError


@dataclass
class Progress:
    """Where a training stands.

    Whole epochs done, steps of the one under way, seconds of training, the best epoch's checkpoint, and the images
    that could not be read.

    `losses` has the sum of the losses of the epoch under way for each rank. A step that ends an epoch is not yet an
    epoch done: the evaluation may still be missing.
    """

    epoch: int = 0
    step: int = 0
    seconds: float = 0.0
    best: str = ""
    best_accuracy: float = -1.0
    losses: list[float] = field(default_factory=list)
    skipped: list[str] = field(default_factory=list)

    @classmethod
    def from_json(cls, message: dict[str, Any]) -> Self:
        """What `as_json` gave. Raises TrainingError when another version of t2tbuild gave it."""
        try:
            return cls(**message)
        except TypeError:
            raise TrainingError("the checkpoint was written by another version of t2tbuild: start a new run") from None

    def as_json(self) -> dict[str, Any]:
        """What progress.json holds."""
        return asdict(self)

    def loss_of(self, rank: int, ranks: int) -> float:
        """The sum of a rank's losses; after a change of their number all is with the first."""
        if len(self.losses) == ranks:
            return self.losses[rank]
        return sum(self.losses) * ranks / max(1, len(self.losses)) if rank == 0 else 0.0
