"""The search space: dotted fields of the base and their values -> candidates."""

import copy
import difflib
import json
import math
import random
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import ValidationError

from t2tbuild.errors import SeveralFieldsError, UnknownFieldError
from t2tbuild.nas.field_paths import copy_data, get_field, kind_of, leaves, matches, set_field, to_plain
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import DEPTH, Choices, Dimension, Fill, Range, Value

SampledDimension = Choices | Range
Assignment = dict[str, Value]
"""The value of each drawn field, and under FILL, if a field is solved, the fraction of its largest value."""
FILL = "fill"
LABEL = "name"
"""The field that does not change a model."""


@dataclass(frozen=True)
class Solved:
    """The field that is solved from the budget."""

    path: str
    fill: Fill


class Space:
    """The fields of `search.space`, applied to the base model.

    `dimensions` holds the freely drawn fields, those of each stage and block separately. `solved` is the field that is
    solved from the budget, if any.
    """

    def __init__(self, search: Search, base: ModelSpec) -> None:
        self.base = base
        self._named = search.base
        self.solved: Solved | None = None
        self.dimensions: dict[str, SampledDimension] = {}
        self._data: dict[str, Any] = to_plain(base)
        wrong = [
            error
            for path, given in search.space.items()
            if (error := self._unknown(path, given) or self._label_only(path))
        ]
        if wrong:
            raise SeveralFieldsError(wrong)
        for path, given in search.space.items():
            if isinstance(given, Fill):
                self.solved = Solved(path, given)
        self._blocks = self._max_blocks(search.space.get(DEPTH))
        self._per_block = {path for path, given in search.space.items() if getattr(given, "per", None)}
        for path, given in search.space.items():
            if not isinstance(given, Fill):
                self.dimensions |= dict.fromkeys(self.drawn(path), given)
        self._derive_heads()

    def _max_blocks(self, depth: Dimension | None) -> int:
        values = () if depth is None else depth.values
        return max(values, default=self.base.backbone.num_blocks)

    def _derive_heads(self) -> None:
        """Set the other of num_heads and head_dim to null: keep the searched one, else head_dim if the width varies."""
        backbone, heads = self._data["backbone"], self.base.backbone.heads
        if "backbone.head_dim" in self.dimensions:
            backbone["num_heads"] = None
        elif "backbone.num_heads" in self.dimensions.keys() | self._per_block:
            backbone["head_dim"] = None
        elif "backbone.embed_dim" in self._searched() and len(set(heads)) == 1:
            backbone |= {"num_heads": None, "head_dim": self.base.backbone.embed_dim // heads[0]}

    def _searched(self) -> set[str]:
        return {*self.dimensions, *([self.solved.path] if self.solved else ())}

    @property
    def size(self) -> int:
        """The number of assignments at most. Each has one or more values of the solved field."""
        return math.prod(len(dimension.values) for dimension in self.dimensions.values())

    def draw(self, pick: Callable[[str, Sequence[Value]], Value]) -> Assignment:
        """Return an assignment whose values `pick` chooses, in order, for the fields whose conditions hold."""
        data, assignment = self._copy_base(), Assignment()
        for path, dimension in self.dimensions.items():
            if _condition_holds(dimension.when, data):
                assignment[path] = pick(path, dimension.values)
                self._apply(data, path, assignment[path])
        return assignment

    def draw_uniform(self, rng: random.Random) -> Assignment:
        """Return an assignment in which every value of a field is equally likely."""
        return self.draw(lambda _path, values: values[rng.randrange(len(values))])

    def assignments(self) -> Iterator[Assignment]:
        """Yield every assignment of the fields whose conditions hold, without the solved field's fraction."""
        return self._complete({}, list(self.dimensions.items()))

    def _complete(self, given: Assignment, left: list[tuple[str, SampledDimension]]) -> Iterator[Assignment]:
        """Yield every extension of `given` by the fields in `left` whose conditions hold."""
        if not left:
            yield given
            return
        (path, dimension), *rest = left
        if not _condition_holds(dimension.when, self.data(given)):
            yield from self._complete(given, rest)
            return
        for value in dimension.values:
            yield from self._complete(given | {path: value}, rest)

    def model(self, assignment: Mapping[str, Value], solved: float | None = None, name: str = "candidate") -> ModelSpec:
        """Return the candidate of an assignment, with the value of its solved field.

        Raises pydantic's ValidationError when the fields are invalid together, LookupError when one does not exist.
        """
        data = self.data(assignment, solved) | {"name": name}
        return ModelSpec.model_validate(data)

    def data(self, assignment: Mapping[str, Value], solved: float | None = None) -> dict[str, Any]:
        """Return the fields of the candidate of an assignment, without validation."""
        data = self._copy_base()
        if solved is not None and self.solved is not None:
            set_field(data, self.solved.path, solved)
        for path, value in assignment.items():
            if path != FILL:
                self._apply(data, path, value)
        self._set_block_lists(data, assignment)
        return data

    def _copy_base(self) -> dict[str, Any]:
        data: dict[str, Any] = copy_data(self._data)
        return data

    def _apply(self, data: dict[str, Any], path: str, value: Value) -> None:
        if path.rpartition(".")[0] not in self._per_block:
            set_field(data, path, copy.deepcopy(value) if isinstance(value, dict | list | tuple) else value)

    def _set_block_lists(self, data: dict[str, Any], assignment: Mapping[str, Value]) -> None:
        """Set the lists of one value per block, cut to the candidate's depth."""
        for path in self._per_block:
            drawn = [assignment.get(f"{path}.{block}") for block in range(self._blocks)]
            depth = data["backbone"].get("depth")
            if isinstance(depth, int) and None not in drawn[:depth]:
                set_field(data, path, tuple(drawn[:depth]))

    def first_error(self) -> str:
        """Return the validation error of the first member, empty if it is valid."""
        try:
            self.model(next(self.assignments()), self.solved.fill.low if self.solved else None)
        except (ValidationError, LookupError) as error:
            return error_message(error)
        return ""

    def fields(self, path: str) -> list[str]:
        """Return the fields of the base that match a path. `*` matches the stages that set the field, or else all."""
        values = dict(leaves(self._data))
        found = [field for field in values if matches(field, path)]
        return [field for field in found if values[field] is not None] or found

    def drawn(self, path: str) -> list[str]:
        """Return the dimensions of a path of the spec: one for each stage and block."""
        blocks = range(self._blocks) if path in self._per_block else ()
        return [f"{path}.{block}" for block in blocks] or self.fields(path) or [path]

    def has_block_of(self, path: str, depth: int) -> bool:
        """Whether a model of this depth has the block of a drawn field; of a field without blocks, it always has."""
        above, _, last = path.rpartition(".")
        return above not in self._per_block or int(last) < depth

    def same(self, assignment: Mapping[str, Value], depth: int) -> float:
        """Return how many assignments give the same model: they differ only in blocks beyond its depth."""
        beyond = [f"{path}.{block}" for path in self._per_block for block in range(depth, self._blocks)]
        return math.prod(float(len(self.dimensions[field].values)) for field in beyond if field in assignment)

    def locate(self, model: ModelSpec) -> Assignment | None:
        """Return the assignment of a model, without the solved field. None where a value is not in the space.

        It may give another model where they differ in a field that is not searched.
        """
        data = to_plain(model)
        backbone = data["backbone"] | {"head_dim": data["backbone"].get("head_dim") or _head_dim(model)}
        data["backbone"] = backbone

        def read(path: str, values: Sequence[Value]) -> Value:
            above, _, last = path.rpartition(".")
            if above in self._per_block:
                each = model.backbone.heads if above.endswith("num_heads") else model.backbone.mlp_ratios
                value: Value = each[int(last)] if int(last) < len(each) else values[0]
            else:
                value = get_field(data, path)
            for choice in values:
                if choice == value or kind_of(choice) == kind_of(value):
                    return choice
            raise LookupError

        try:
            return self.draw(read)
        except LookupError:
            return None

    def _unknown(self, path: str, given: Dimension) -> UnknownFieldError | None:
        """Return the error of a path that matches no field of the base."""
        if self.fields(path) or getattr(given, "when", None):
            return None
        near = difflib.get_close_matches(path, [field for field, _ in leaves(self._data)], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"t2tbuild show {self._named} lists its fields"
        message = f"the base {self.base.name} has no field {path!r:.60}"
        return UnknownFieldError(("search", "space", path), "space", message, hint)

    def _label_only(self, path: str) -> UnknownFieldError | None:
        """Return the error of a path that matches the model's name: models that differ in it alone are the same."""
        if LABEL not in self.fields(path):
            return None
        message = f"{path:.60} is a label, not a property of the model: each model would be listed once for every name"
        hint = "remove it, and search a field of the model, such as backbone.depth"
        return UnknownFieldError(("search", "space", path), "space", message, hint)


def error_message(error: ValidationError | LookupError) -> str:
    """Return the error of a candidate as one line."""
    return error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error.args[0])


def to_category(value: Value) -> bool | int | float | str | None:
    """Return a value as Optuna stores it: a mapping or list becomes JSON."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list | tuple) else value


def _condition_holds(condition: Mapping[str, Value] | None, data: dict[str, Any]) -> bool:
    """Whether all fields of a condition have one of its values."""
    for path, wanted in (condition or {}).items():
        try:
            value = get_field(data, path)
        except LookupError:
            return False
        if value not in (wanted if isinstance(wanted, list | tuple) else [wanted]):
            return False
    return True


def _head_dim(model: ModelSpec) -> int | None:
    heads = model.backbone.heads
    return model.backbone.embed_dim // heads[0] if len(set(heads)) == 1 else None
