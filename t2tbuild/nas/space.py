"""The space of a search: dotted fields of the base and what each may be -> candidates."""

import copy
import difflib
import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel, ValidationError

from t2tbuild.errors import SeveralFieldsError, UnknownFieldError
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.spec.space import DEPTH, Choices, Dimension, Fill, Range, Value

Drawn = Choices | Range
Assignment = dict[str, Value]
"""The value of each field that is drawn, and under `fill`, if a field is solved, the fraction of its largest value."""
FILL = "fill"


@dataclass(frozen=True)
class Solved:
    """The field that follows from the budget."""

    path: str
    fill: Fill


class Space:
    """The fields of `search.space`, seen from the base model.

    `dimensions` holds what is drawn freely, each stage's and each block's field on its own; `solved`, if any, is the
    field that follows from the budget.
    """

    def __init__(self, search: Search, base: ModelSpec) -> None:
        self.base = base
        self._named = search.base
        self.solved: Solved | None = None
        self.dimensions: dict[str, Drawn] = {}
        self._data: dict[str, Any] = _plain(base)
        unknown = [error for path, given in search.space.items() if (error := self._unknown(path, given))]
        if unknown:
            raise SeveralFieldsError(unknown)
        for path, given in search.space.items():
            if isinstance(given, Fill):
                self.solved = Solved(path, given)
        self._blocks = self._most_blocks(search.space.get(DEPTH))
        self._per_block = {path for path, given in search.space.items() if getattr(given, "per", None)}
        for path, given in search.space.items():
            if not isinstance(given, Fill):
                self.dimensions |= dict.fromkeys(self.drawn(path), given)
        self._let_heads_follow()

    def _most_blocks(self, depth: Dimension | None) -> int:
        values = () if depth is None else depth.values
        return max(values, default=self.base.backbone.depth)

    def _let_heads_follow(self) -> None:
        """Keep one of num_heads and head_dim: the one that is searched, else head_dim where the width is searched."""
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
        """How many assignments there are at most, each with one or more values of the solved field."""
        return math.prod(len(dimension.values) for dimension in self.dimensions.values())

    def draw(self, pick: Callable[[str, Sequence[Value]], Value]) -> Assignment:
        """An assignment whose values `pick` chooses, of the fields whose conditions hold, in their order."""
        data, assignment = self._fresh(), Assignment()
        for path, dimension in self.dimensions.items():
            if _holds(dimension.when, data):
                assignment[path] = pick(path, dimension.values)
                self._apply(data, path, assignment[path])
        return assignment

    def assignments(self) -> Iterator[Assignment]:
        """Every assignment of the free fields whose conditions hold; the solved field's fraction is not in them."""
        return self._below({}, list(self.dimensions.items()))

    def _below(self, given: Assignment, left: list[tuple[str, Drawn]]) -> Iterator[Assignment]:
        if not left:
            yield given
            return
        (path, dimension), *rest = left
        if not _holds(dimension.when, self.data(given)):
            yield from self._below(given, rest)
            return
        for value in dimension.values:
            yield from self._below(given | {path: value}, rest)

    def model(self, assignment: Mapping[str, Value], solved: int | None = None, name: str = "candidate") -> ModelSpec:
        """The candidate of an assignment, with its solved field's value.

        Raises pydantic's ValidationError when its fields do not go together, and LookupError when one has no place.
        """
        data = self.data(assignment, solved) | {"name": name}
        return ModelSpec.model_validate(data)

    def data(self, assignment: Mapping[str, Value], solved: int | None = None) -> dict[str, Any]:
        """The fields of the candidate of an assignment, whether they go together or not."""
        data = self._fresh()
        if solved is not None and self.solved is not None:
            _set(data, self.solved.path, solved)
        for path, value in assignment.items():
            if path != FILL:
                self._apply(data, path, value)
        self._give_blocks(data, assignment)
        return data

    def _fresh(self) -> dict[str, Any]:
        data: dict[str, Any] = _copy(self._data)
        return data

    def _apply(self, data: dict[str, Any], path: str, value: Value) -> None:
        if path.rpartition(".")[0] not in self._per_block:
            _set(data, path, copy.deepcopy(value) if isinstance(value, dict | list | tuple) else value)

    def _give_blocks(self, data: dict[str, Any], assignment: Mapping[str, Value]) -> None:
        """Set lists of a value a block, as long as the candidate is deep."""
        for path in self._per_block:
            drawn = [assignment.get(f"{path}.{block}") for block in range(self._blocks)]
            depth = data["backbone"].get("depth")
            if isinstance(depth, int) and None not in drawn[:depth]:
                _set(data, path, tuple(drawn[:depth]))

    def first_mistake(self) -> str:
        """What is wrong with the first member."""
        try:
            self.model(next(self.assignments()), self.solved.fill.low if self.solved else None)
        except (ValidationError, LookupError) as error:
            return mistake_of(error)
        return ""

    def fields(self, path: str) -> list[str]:
        """The fields of the base that a path means: `*` is every stage whose field is set, or all where none is."""
        leaves = dict(_leaves(self._data))
        found = [field for field in leaves if _matches(field, path)]
        return [field for field in found if leaves[field] is not None] or found

    def drawn(self, path: str) -> list[str]:
        """The dimensions that a path of the spec stands for: each stage's field, and each block's, on its own."""
        blocks = range(self._blocks) if path in self._per_block else ()
        return [f"{path}.{block}" for block in blocks] or self.fields(path) or [path]

    def same(self, assignment: Mapping[str, Value], depth: int) -> float:
        """How many assignments differ from one only in blocks beyond its depth, and so make the same model."""
        beyond = [f"{path}.{block}" for path in self._per_block for block in range(depth, self._blocks)]
        return math.prod(float(len(self.dimensions[field].values)) for field in beyond if field in assignment)

    def locate(self, model: ModelSpec) -> Assignment | None:
        """The assignment nearest to a model, its solved field left out; None where a value of it is never drawn.

        It may make another model, where they differ in a field that is not searched.
        """
        data = _plain(model)
        backbone = data["backbone"] | {"head_dim": data["backbone"].get("head_dim") or _head_dim(model)}
        data["backbone"] = backbone

        def read(path: str, values: Sequence[Value]) -> Value:
            above, _, last = path.rpartition(".")
            if above in self._per_block:
                each = model.backbone.heads if above.endswith("num_heads") else model.backbone.mlp_ratios
                value: Value = each[int(last)] if int(last) < len(each) else values[0]
            else:
                value = _get(data, path)
            for choice in values:
                if choice == value or _kind(choice) == _kind(value):
                    return choice
            raise LookupError

        try:
            return self.draw(read)
        except LookupError:
            return None

    def _unknown(self, path: str, given: Dimension) -> UnknownFieldError | None:
        """What is wrong with a path that means no field of the base."""
        if self.fields(path) or getattr(given, "when", None):
            return None
        near = difflib.get_close_matches(path, [field for field, _ in _leaves(self._data)], n=3)
        hint = f"did you mean {' or '.join(near)}?" if near else f"t2tbuild show {self._named} lists its fields"
        message = f"the base {self.base.name} has no field {path!r:.60}"
        return UnknownFieldError(("search", "space", path), "space", message, hint)


def mistake_of(error: ValidationError | LookupError) -> str:
    """What is wrong with a candidate, in a line."""
    return error.errors()[0]["msg"] if isinstance(error, ValidationError) else str(error.args[0])


def value_at(model: ModelSpec, path: str) -> Any:
    """The value of a model's field. Raises LookupError where it has none."""
    return _get(_plain(model), path)


def category(value: Value) -> bool | int | float | str | None:
    """A value as Optuna's storage takes it: a mapping or list as its JSON."""
    return json.dumps(value, sort_keys=True) if isinstance(value, dict | list | tuple) else value


def _holds(condition: Mapping[str, Value] | None, data: dict[str, Any]) -> bool:
    """Whether the fields of a condition have the values that it asks for."""
    for path, wanted in (condition or {}).items():
        try:
            value = _get(data, path)
        except LookupError:
            return False
        if value not in (wanted if isinstance(wanted, list | tuple) else [wanted]):
            return False
    return True


def _head_dim(model: ModelSpec) -> int | None:
    heads = model.backbone.heads
    return model.backbone.embed_dim // heads[0] if len(set(heads)) == 1 else None


def _plain(node: Any) -> Any:
    """A spec node as plain data, fields that are null included."""
    if isinstance(node, BaseModel):
        return {field: _plain(getattr(node, field)) for field in type(node).model_fields}
    return [_plain(item) for item in node] if isinstance(node, tuple) else node


def _kind(value: Any) -> Any:
    """The kind of a mapping, for which its name alone may stand."""
    return value.get("kind", value) if isinstance(value, dict) else value


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


def _get(data: Any, path: str) -> Any:
    """What stands at a dotted path. Raises LookupError where nothing does."""
    for part in path.split("."):
        if not isinstance(data, dict | list | tuple):
            raise LookupError(f"there is no {path} beside the other fields")
        try:
            data = data[part] if isinstance(data, dict) else data[int(part)]
        except (KeyError, IndexError):
            raise LookupError(f"there is no {path} beside the other fields") from None
    return data


def _set(data: Any, path: str, value: Value) -> None:
    """Set what stands at a dotted path. Raises LookupError where there is no place for it."""
    above, _, last = path.rpartition(".")
    place = _get(data, above) if above else data
    if not isinstance(place, dict):
        raise LookupError(f"there is no {path} beside the other fields")
    place[last] = value
