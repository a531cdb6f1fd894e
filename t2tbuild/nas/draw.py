"""A draw: a candidate that a sampler proposes, and where it comes from."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from t2tbuild.nas.members import Member
from t2tbuild.nas.record import Record, Source, State
from t2tbuild.spec.model import ModelSpec


@dataclass(frozen=True)
class Draw:
    """A candidate, its parameters in Optuna, its source, and how many draws were rejected for it.

    They were out of budget, not new, or ranked below it. `system_attrs` is what the Optuna sampler notes on its trial.
    `chosen_by` is that of the record.
    """

    member: Member
    source: Source
    system_attrs: Mapping[str, Any] = field(default_factory=dict)
    infeasible: int = 0
    duplicates: int = 0
    passed_over: int = 0
    chosen_by: str = ""

    @property
    def model(self) -> ModelSpec:
        return self.member.model

    @property
    def key(self) -> str:
        return self.member.key

    @property
    def params(self) -> Mapping[str, Any]:
        return self.member.params

    def record(self) -> Record:
        """Return the record of the candidate, which the store numbers."""
        found = {name: getattr(self, name) for name in ("infeasible", "duplicates", "passed_over", "chosen_by")}
        return Record("", State.RUNNING, self.model, key=self.key, source=self.source, **found)


@dataclass(frozen=True)
class Choice:
    """The evidence that chooses one of several draws: its kind, and the function that picks the draw."""

    kind: str
    pick: Callable[[Sequence[Draw]], Draw]


def source_of(index: int, random_fraction: float) -> Source:
    """Return the source of the candidate at an index. Random candidates are spread evenly."""
    return Source.RANDOM if int((index + 1) * random_fraction) > int(index * random_fraction) else Source.SAMPLER
