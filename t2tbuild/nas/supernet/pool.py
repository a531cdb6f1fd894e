"""The members of a space that share a supernet. Torch-free."""

import random
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass

from t2tbuild.cost.predict import predict_cost
from t2tbuild.errors import FieldError
from t2tbuild.nas.field_paths import get_field, to_plain
from t2tbuild.nas.members import Member, Members
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.space import Space, to_category
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import Value
from t2tbuild.training.seeds import fold_in

SAMPLED = 5_000
"""Assignments that stand for a space that is too large to enumerate."""


@dataclass(frozen=True)
class SupernetMember:
    """A member of the space within the budget, its cost at full size, and its values of the searched fields."""

    member: Member
    macs: int
    params: int
    values: Mapping[str, Value]

    @property
    def key(self) -> str:
        return self.member.key

    @property
    def model(self) -> ModelSpec:
        return self.member.model


def pool(planned: Plan) -> tuple[SupernetMember, ...]:
    """Return the members within the budget, the cheapest first; of a large space those of a sample by the seed."""
    members, space = planned.members, planned.space
    found = {one.key: one for one in (members if members.assignments else _sample(members, planned.search.seed))}
    if not found:
        message = f"none of {SAMPLED:,} random members is within the budget, so a supernet has nothing to train"
        raise FieldError(("search", "space"), "space", message, "narrow search.space, or raise the budget")
    return tuple(sorted((with_cost(one, space) for one in found.values()), key=lambda one: (one.macs, one.key)))


def _sample(members: Members, seed: int) -> Iterator[Member]:
    for end in (_smallest, _largest):
        yield from members.solve(members.space.draw(end))
    rng = random.Random(fold_in(seed, SAMPLED))  # noqa: S311
    for _ in range(SAMPLED):
        yield from members.solve(members.space.draw_uniform(rng))


def with_cost(member: Member, space: Space) -> SupernetMember:
    """Return a member of the space with its cost and its values."""
    cost, data = predict_cost(member.model), to_plain(member.model)
    depth = member.model.backbone.num_blocks
    fields = [path for path in space.dimensions if space.has_block_of(path, depth)]
    fields += [space.solved.path] if space.solved else []
    values = {path: _value_of(data, path, member) for path in fields}
    return SupernetMember(member, cost.macs, cost.params, values)


def _smallest(_path: str, values: Sequence[Value]) -> Value:
    """Return the smallest of numbers, the first of other values."""
    return min(values) if all(isinstance(value, int | float) for value in values) else values[0]


def _largest(_path: str, values: Sequence[Value]) -> Value:
    """Return the largest of numbers, the first of other values."""
    return max(values) if all(isinstance(value, int | float) for value in values) else values[0]


def _value_of(data: Mapping[str, Value], path: str, member: Member) -> Value:
    """Return a member's value of a field: what was drawn, or what the model has. None where it has no such field."""
    if path in member.params:
        return member.params[path]
    try:
        return to_category(get_field(data, path))
    except LookupError:
        return None
