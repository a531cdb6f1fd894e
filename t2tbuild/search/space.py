"""The space of a search: dotted fields of the base and what each may be -> candidates."""

import difflib
import itertools
import math
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from pydantic import BaseModel, ValidationError

from t2tbuild.errors import SeveralFieldsError, UnknownFieldError
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Choices, Fill, Range, Search, Value

if TYPE_CHECKING:
    from optuna.trial import BaseTrial

DEPTH = "backbone.depth"


class Space:
    """The fields of `search.space`, seen from the base model.

    `dimensions` holds what is drawn freely, each stage's field on its own; `fill`, if any, says how the depth follows
    from the budget.
    """

    def __init__(self, search: Search, base: ModelSpec) -> None:
        self.base = base
        self._named = search.base
        self.fill: Fill | None = None
        self.dimensions: dict[str, Choices | Range] = {}
        self._data: dict[str, Any] = _plain(base)
        unknown = [error for path in search.space if (error := self._unknown(path))]
        if unknown:
            raise SeveralFieldsError(unknown)
        for path, dimension in search.space.items():
            for field in self.fields(path):
                if isinstance(dimension, Fill):
                    self.fill = dimension
                else:
                    self.dimensions[field] = dimension
        self._let_heads_follow()

    def _let_heads_follow(self) -> None:
        """Keep one of num_heads and head_dim: the one that is searched, else head_dim where the width is searched."""
        backbone, heads = self._data["backbone"], self.base.backbone.heads
        if "backbone.head_dim" in self.dimensions:
            backbone["num_heads"] = None
        elif "backbone.num_heads" in self.dimensions:
            backbone["head_dim"] = None
        elif "backbone.embed_dim" in self.dimensions and len(set(heads)) == 1:
            backbone |= {"num_heads": None, "head_dim": self.base.backbone.embed_dim // heads[0]}

    @property
    def size(self) -> int:
        """How many assignments there are, each with one or more depths."""
        return math.prod(len(dimension.values) for dimension in self.dimensions.values())

    def draw(self, trial: "BaseTrial") -> dict[str, Value]:
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

    def draw_fill(self, trial: "BaseTrial") -> float:
        """Let an Optuna trial draw what fraction of the deepest candidate is taken."""
        assert self.fill is not None
        return trial.suggest_float(f"{DEPTH}.fill", *self.fill.fill)

    def assignments(self) -> Iterator[dict[str, Value]]:
        """Every assignment of the free fields."""
        values = (dimension.values for dimension in self.dimensions.values())
        return (dict(zip(self.dimensions, choice, strict=True)) for choice in itertools.product(*values))

    def model(self, assignment: Mapping[str, Value], depth: int | None = None, name: str = "candidate") -> ModelSpec:
        """The candidate of an assignment. Raises pydantic's ValidationError when its fields do not go together."""
        data = self.data(assignment) | {"name": name}
        if depth is not None:
            _set(data, DEPTH, depth)
        return ModelSpec.model_validate(data)

    def data(self, assignment: Mapping[str, Value]) -> dict[str, Any]:
        """The fields of the candidate of an assignment, whether they go together or not."""
        data: dict[str, Any] = _copy(self._data)
        for path, value in assignment.items():
            _set(data, path, value)
        return data

    def members(self) -> Iterator[ModelSpec]:
        """Every valid member, each at its shallowest where the depth is solved from the budget."""
        depth = self.fill.low if self.fill else None
        for assignment in self.assignments():
            try:
                yield self.model(assignment, depth)
            except ValidationError:
                continue

    def first_mistake(self) -> str:
        """What is wrong with the first member."""
        try:
            self.model(next(self.assignments()), self.fill.low if self.fill else None)
        except ValidationError as error:
            return error.errors()[0]["msg"]
        return ""

    def fields(self, path: str) -> list[str]:
        """The fields that a path means: `*` is every stage whose field is set, or every one where none is."""
        leaves = dict(_leaves(self._data))
        found = [field for field in leaves if _matches(field, path)]
        return [field for field in found if leaves[field] is not None] or found

    def _unknown(self, path: str) -> UnknownFieldError | None:
        """What is wrong with a path that means no field of the base."""
        if self.fields(path):
            return None
        near = difflib.get_close_matches(path, [field for field, _ in _leaves(self._data)], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"t2tbuild show {self._named} lists its fields"
        told = f"the base {self.base.name} has no field {path!r:.60}"
        return UnknownFieldError(("search", "space", path), "space", told, hint)


def _plain(node: Any) -> Any:
    """A spec node as plain data, fields that are null included."""
    if isinstance(node, BaseModel):
        return {field: _plain(getattr(node, field)) for field in type(node).model_fields}
    return [_plain(item) for item in node] if isinstance(node, tuple) else node


def _copy(data: Any) -> Any:
    if isinstance(data, dict):
        return {key: _copy(value) for key, value in data.items()}
    return [_copy(item) for item in data] if isinstance(data, list) else data


def _leaves(data: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    """Dotted paths of every field with their values, lists of nodes included."""
    if path:
        yield path, data
    if isinstance(data, dict):
        for key, value in data.items():
            yield from _leaves(value, f"{path}.{key}" if path else key)
    elif isinstance(data, list):
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
