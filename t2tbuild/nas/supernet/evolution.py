"""Members to evaluate next: offspring of the best members within each budget. Pure, and torch-free."""

import random
from collections.abc import Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet

from t2tbuild.nas.members import Member, Members
from t2tbuild.nas.space import FILL, Assignment, Space
from t2tbuild.spec.space import Value

PARENTS = 8
"""So many of the best members within each budget have offspring."""
TRIES = 200
"""After this many offspring in a row that are not new, a generation is complete."""


def propose(
    members: Members, parents: Sequence[Member], seen: AbstractSet[str], count: int, rng: random.Random
) -> list[Member]:
    """Return up to `count` new members, each a parent with one or two fields changed.

    Args:
        members: The members of the space within the budget.
        parents: The members to change.
        seen: The keys of members that are known.
        count: The number of members to return; fewer where TRIES in a row are not new.
        rng: The random generator, which is the only source of chance.
    """
    found: dict[str, Member] = {}
    misses = 0
    offspring = _offspring(members, parents, rng)
    while len(found) < count and misses < TRIES and (assignment := next(offspring, None)) is not None:
        new = [one for one in members.solve(assignment) if one.key not in seen and one.key not in found]
        misses = 0 if new else misses + 1
        if new:
            chosen = rng.choice(new)
            found[chosen.key] = chosen
    return list(found.values())


def _offspring(members: Members, parents: Sequence[Member], rng: random.Random) -> Iterator[Assignment]:
    """Yield assignments that differ in one or two fields from those of parents, without end unless there is none."""
    assignments = [members.to_assignment(parent.params) for parent in parents]
    while assignments:
        yield mutate(members.space, rng.choice(assignments), rng)


def mutate(space: Space, parent: Mapping[str, Value], rng: random.Random) -> Assignment:
    """Return an assignment with one or two other values than the parent's.

    With a solved field, it may have none: another value of the solved field is a change too. A field whose condition
    newly holds is drawn at random.
    """
    free = [path for path in parent if path != FILL and len(space.dimensions[path].values) > 1]
    fewest = 0 if space.solved is not None else 1
    changed = set(rng.sample(free, min(len(free), rng.randint(fewest, 2))))

    def pick(path: str, values: Sequence[Value]) -> Value:
        if path in parent and path not in changed:
            return parent[path]
        others = [value for value in values if path not in parent or value != parent[path]]
        return rng.choice(others or list(values))

    return space.draw(pick)
