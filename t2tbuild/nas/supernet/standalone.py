"""Which members are trained alone, and which are trained on for confirmation. Pure, and torch-free."""

import random
from bisect import bisect_left
from collections.abc import Sequence
from dataclasses import dataclass

from t2tbuild.nas.correlations import MACS_TOLERANCE
from t2tbuild.nas.supernet.inherited import limits_of, within
from t2tbuild.nas.supernet.pool import SupernetMember
from t2tbuild.nas.supernet.results import InheritedResult, StandaloneResult
from t2tbuild.spec.search import Search
from t2tbuild.training.seeds import fold_in

SEED = 0xA10E
"""Mixed into the seed, so that these random numbers differ from others of the same seed."""


@dataclass(frozen=True)
class Confirmation:
    """A member to train on, why, and the limit on MACs within which it is the best; 0 for none."""

    key: str
    why: str
    budget: int


def choose_random(members: Sequence[SupernetMember], search: Search) -> list[SupernetMember]:
    """Return the random members that are trained alone.

    Half of them are any members, the others are of nearly equal MACs, so that a correlation at equal MACs has
    something to go by. `members` is the pool, the cheapest first.
    """
    assert search.supernet is not None
    rng = random.Random(fold_in(search.seed, SEED))  # noqa: S311
    wanted = min(search.supernet.validity, len(members))
    found = {one.key: one for one in rng.sample(list(members), wanted - wanted // 2)}
    band = [one for one in equal_macs(members) if one.key not in found]
    found |= {one.key: one for one in rng.sample(band, min(len(band), wanted - len(found)))}
    rest = [one for one in members if one.key not in found]
    found |= {one.key: one for one in rng.sample(rest, wanted - len(found))}
    return list(found.values())


def equal_macs(members: Sequence[SupernetMember]) -> Sequence[SupernetMember]:
    """Return the largest group of members whose MACs differ by at most MACS_TOLERANCE; members are sorted by MACs."""
    macs = [one.macs for one in members]
    starts = [bisect_left(macs, (1 - MACS_TOLERANCE) * most) for most in macs]
    end = max(range(len(macs)), key=lambda index: index - starts[index], default=-1)
    return members[starts[end] : end + 1] if macs else ()


def choose_confirmations(
    search: Search, results: Sequence[InheritedResult], alone: Sequence[StandaloneResult]
) -> list[Confirmation]:
    """Return the best members of the largest limit, the best one of each other limit, and random members.

    The random ones are of those that were trained `alone`, so that one of their trainings is done.
    """
    settings = search.supernet
    assert settings is not None
    *others, largest = limits_of(search)
    found = {one.key: Confirmation(one.key, "best", largest) for one in within(results, largest)[: settings.best]}
    for limit in others:
        found |= {
            one.key: Confirmation(one.key, "best", limit) for one in within(results, limit)[:1] if one.key not in found
        }
    evaluated = {one.key for one in results}
    keys = [one.key for one in alone if one.key not in found] or sorted(evaluated - found.keys())
    found |= {key: Confirmation(key, "random", 0) for key in keys[: settings.random]}
    return list(found.values())
