"""A valid model with each value of each field of a space, for checks of single values. Torch-free."""

import random
from collections.abc import Iterator
from dataclasses import dataclass

from pydantic import ValidationError

from t2tbuild.nas.space import Space
from t2tbuild.spec.model import ModelSpec

MAX_DRAWS = 8
"""At most this many assignments are drawn with a value, until one of them is valid."""


@dataclass(frozen=True)
class ModelOfValue:
    """A model, and the field and the index of the value that it was drawn with."""

    field: str
    index: int
    model: ModelSpec


def each_value(space: Space) -> Iterator[ModelOfValue]:
    """Yield a valid model with each value of each field, the other fields drawn at random."""
    rng = random.Random(0)  # noqa: S311
    low = space.solved.fill.low if space.solved else None
    for path, dimension in space.dimensions.items():
        for index, value in enumerate(dimension.values):
            for _ in range(MAX_DRAWS):
                drawn = space.draw(lambda one, values: value if one == path else rng.choice(values))  # noqa: B023
                try:
                    model = space.model(drawn, low)
                except (ValidationError, LookupError):
                    continue
                if path in drawn:  # else its condition does not hold
                    yield ModelOfValue(path, index, model)
                    break
