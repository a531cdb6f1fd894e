"""The progress of a supernet's phases, for a progress line. Torch-free."""

from dataclasses import dataclass
from typing import Literal

Phase = Literal["training", "evaluation", "validity", "confirmation"]
"""The phases of a supernet, in order: its training, members with inherited weights, random members that are trained
alone, and the best and random ones that are trained on."""


@dataclass(frozen=True)
class PhaseProgress:
    """How much of a phase is done: steps, members or trainings.

    `seconds` are those of this session in this phase, in which it has done `here` of them.
    """

    phase: Phase
    done: int
    total: int
    seconds: float
    here: int

    @property
    def seconds_left(self) -> float | None:
        """The estimated seconds to the end of this phase; None before the first result of this session."""
        return self.seconds / self.here * (self.total - self.done) if self.here else None
