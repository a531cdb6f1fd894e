"""The space of a search: dotted fields of the base and what each may be -> candidates."""

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import Any

from optuna.trial import BaseTrial
from pydantic import ValidationError

from t2tbuild.errors import InputError
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Choices, Fill, Range, Search, Value

DEPTH = "backbone.depth"


class Space:
    """The fields of `search.space`, seen from the base model.

    `dimensions` holds what is drawn freely, each stage's field on its own; `fill`, if any, says how the depth follows
    from the budget.
    """

    def __init__(self, search: Search, base: ModelSpec) -> None:
        self.base = base
        self.fill: Fill | None = None
        self.dimensions: dict[str, Choices | Range] = {}
        self._data: dict[str, Any] = base.model_dump()
        for path, dimension in search.space.items():
            for field in self._fields(path):
                if isinstance(dimension, Fill):
                    self.fill = dimension
                else:
                    self.dimensions[field] = dimension
        heads = {"backbone.num_heads", "backbone.head_dim"} & self.dimensions.keys()
        if "backbone.embed_dim" in self.dimensions and not heads and len(set(base.backbone.heads)) == 1:
            self._data["backbone"].pop("num_heads", None)
            self._data["backbone"]["head_dim"] = base.backbone.embed_dim // base.backbone.heads[0]

    @property
    def size(self) -> int:
        """How many assignments there are, each with one or more depths."""
        return math.prod(len(dimension.values) for dimension in self.dimensions.values())

    def draw(self, trial: BaseTrial) -> dict[str, Value]:
        """Let an Optuna trial draw a value of each free field."""
        assignment: dict[str, Value] = {}
        for path, dimension in self.dimensions.items():
            if isinstance(dimension, Range):
                assignment[path] = trial.suggest_int(path, dimension.low, dimension.high, step=dimension.step)
            else:
                value = trial.suggest_categorical(path, dimension.choices)
                assert value is not None
                assignment[path] = value
        return assignment

    def draw_fill(self, trial: BaseTrial) -> float:
        """Let an Optuna trial draw what fraction of the deepest candidate is taken."""
        assert self.fill is not None
        return trial.suggest_float(f"{DEPTH}.fill", *self.fill.fill)

    def assignments(self) -> Iterator[dict[str, Value]]:
        """Every assignment of the free fields."""
        values = (dimension.values for dimension in self.dimensions.values())
        return (dict(zip(self.dimensions, choice, strict=True)) for choice in itertools.product(*values))

    def model(self, assignment: Mapping[str, Value], depth: int | None = None, name: str = "candidate") -> ModelSpec:
        """The candidate of an assignment. Raises pydantic's ValidationError when its fields do not go together."""
        data = _copy(self._data) | {"name": name}
        for path, value in assignment.items():
            _set(data, path, value)
        if depth is not None:
            _set(data, DEPTH, depth)
        return ModelSpec.model_validate(data)

    def valid(self, assignment: Mapping[str, Value], depth: int | None = None) -> bool:
        """Whether the fields of an assignment go together."""
        try:
            self.model(assignment, depth)
        except ValidationError:
            return False
        return True

    def _fields(self, path: str) -> list[str]:
        """The fields that a path means: `*` is every item of a list that has the field."""
        found = [field for field in _leaves(self._data) if _matches(field, path)]
        if not found:
            near = difflib.get_close_matches(path, list(_leaves(self._data)), n=3)
            hint = f"; did you mean {' or '.join(near)}?" if near else ""
            raise InputError(f"search.space: the base {self.base.name} has no field {path!r}{hint}")
        return found


def _copy(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copy(value) for key, value in data.items()}
    return [_copy(item) for item in data] if isinstance(data, list | tuple) else data


def _leaves(data: Any, path: str = "") -> Iterator[str]:
    """Dotted paths of every field, lists of nodes included."""
    if path:
        yield path
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(data, list | tuple):
        for index, value in enumerate(data):
            if isinstance(value, dict):
                yield from _leaves(value, f"{path}.{index}")


def _matches(field: str, pattern: str) -> bool:
    parts, wanted = field.split("."), pattern.split(".")
    return len(parts) == len(wanted) and all(want in ("*", part) for part, want in zip(parts, wanted, strict=True))


def _set(data: Any, path: str, value: Value) -> None:
    *above, last = path.split(".")
    for part in above:
        data = data[int(part) if isinstance(data, list) else part]
    data[last] = value
