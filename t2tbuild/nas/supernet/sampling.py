"""The members that are trained at a step: the sandwich rule, balanced over the values of every field. Torch-free.

Source: Yu et al., "BigNAS", ECCV 2020, Section 3.1 (the largest and the smallest member at each step); Tang et al.,
"ElasticViT", ICCV 2023, Section 3.2 (random members near one another in MACs, whose gradients conflict less).
"""

import random
from bisect import bisect_left, bisect_right
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence

from t2tbuild.nas.supernet.pool import SupernetMember
from t2tbuild.spec.space import Value
from t2tbuild.spec.supernet import SupernetSpec
from t2tbuild.training.seeds import fold_in

NEAR = 0.05
"""Members are among the largest, the smallest, or near one another, if their MACs differ by at most this share."""
TRIES = 32
"""Random members of which the one is trained whose values were trained least."""

Counts = Mapping[str, Mapping[Value, int]]
"""How often each value of each field was trained."""


def members_of_step(
    members: Sequence[SupernetMember], settings: SupernetSpec, counts: Counts, *, seed: int, step: int
) -> list[SupernetMember]:
    """Return the members to train at a step, the largest first. A function of the seed, the step and the counts.

    Args:
        members: Every member, the cheapest first.
        settings: With `sampling: sandwich`, one of the largest and one of the smallest members, and between them
            random ones near one another in MACs; with `random`, random ones alone.
        counts: How often each value was trained before.
        seed: The seed of the search.
        step: The number of the step.
    """
    rng = random.Random(fold_in(seed, step))  # noqa: S311
    macs = [one.macs for one in members]
    if settings.sampling == "random":
        return _sorted(_balanced(members, counts, rng) for _ in range(settings.members))
    ends = [members[bisect_left(macs, (1 - NEAR) * macs[-1]) :], members[: bisect_right(macs, (1 + NEAR) * macs[0])]]
    extremes = [_balanced(end, counts, rng) for end in ends]
    level = rng.choice(macs)
    near = members[bisect_left(macs, (1 - NEAR) * level) : bisect_right(macs, (1 + NEAR) * level)]
    return _sorted([*extremes, *(_balanced(near, counts, rng) for _ in range(settings.members - 2))])


def _sorted(members: Iterable[SupernetMember]) -> list[SupernetMember]:
    """Return distinct members, the largest first."""
    return sorted({one.key: one for one in members}.values(), key=lambda one: (-one.macs, one.key))


def _balanced(members: Sequence[SupernetMember], counts: Counts, rng: random.Random) -> SupernetMember:
    """Return the one of a few random members whose values were trained least."""
    drawn = [rng.choice(members) for _ in range(TRIES)]
    per_mean = {path: len(found) / max(1, sum(found.values())) for path, found in counts.items()}

    def frequency(member: SupernetMember) -> float:
        """Return how often its values were trained, each relative to the mean of the values of its field."""
        values = member.values.items()
        return sum(counts[path].get(value, 0) * per_mean[path] for path, value in values if path in counts)

    return min(drawn, key=frequency)


def add_counts(counts: dict[str, Counter[Value]], members: Iterable[SupernetMember]) -> None:
    """Count the values of the members of a step."""
    for member in members:
        for path, value in member.values.items():
            counts.setdefault(path, Counter())[value] += 1
