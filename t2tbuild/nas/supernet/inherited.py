"""The search on a supernet: generations of members, evaluated with inherited weights.

A generation follows from the seed and from the results before it, so a search that was killed comes to the same
members: results that are known are not measured again.
"""

import itertools
import math
import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import replace

from t2tbuild.nas.members import Member
from t2tbuild.nas.pareto import pareto_front
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.sampler import CandidateSampler
from t2tbuild.nas.store.trials import completed_trial
from t2tbuild.nas.supernet.evolution import PARENTS, propose
from t2tbuild.nas.supernet.pool import SupernetMember, with_cost
from t2tbuild.nas.supernet.results import InheritedResult, loss_order
from t2tbuild.nas.supernet.sliceable import Quantity, is_held, largest_sizes
from t2tbuild.spec.search import Search
from t2tbuild.training.seeds import fold_in

GENERATIONS = 20
"""The candidates are evaluated in so many generations, or in fewer of FEWEST members each."""
FEWEST = 16
FIRST_SHARE = 0.25
"""Share of the candidates that are random, before the first generation of offspring."""
RANDOM_SAMPLERS = ("random", "brute_force")
"""With these, members of the pool are evaluated in random order."""
SEED = 0x5EED
"""Mixed into the seed, so that these random numbers differ from others of the same seed."""

Evaluated = Mapping[str, InheritedResult]
Evaluate = Callable[[Sequence[SupernetMember]], Evaluated]
"""A function that evaluates members, and returns all results so far by key."""


def search_inherited(planned: Plan, members: Sequence[SupernetMember], evaluate: Evaluate) -> list[SupernetMember]:
    """Evaluate up to `candidates` members, and return them in the order of evaluation.

    Args:
        planned: The plan of the search.
        members: The pool, the cheapest first.
        evaluate: Evaluates members.
    """
    settings = planned.search.supernet
    assert settings is not None
    found: dict[str, SupernetMember] = {}
    results: Evaluated = {}
    largest = largest_sizes(one.model for one in members)
    for number in itertools.count():
        chosen = _generation(planned, members, largest, found, results, number)[: settings.candidates - len(found)]
        if not chosen:
            return list(found.values())
        found |= {one.key: one for one in chosen}
        results = evaluate(chosen)
    raise AssertionError


def count_evaluations(planned: Plan, members: Sequence[SupernetMember]) -> int:
    """Return how many members are evaluated at most: no more than the pool has, where no others can be found."""
    search = planned.search
    assert search.supernet is not None
    is_whole = bool(planned.members.assignments) or search.sampler in RANDOM_SAMPLERS
    return min(search.supernet.candidates, len(members)) if is_whole else search.supernet.candidates


def _generation(
    planned: Plan,
    members: Sequence[SupernetMember],
    largest: Mapping[Quantity, int],
    found: Mapping[str, SupernetMember],
    results: Evaluated,
    number: int,
) -> Sequence[SupernetMember]:
    """Return a generation: of a small space the next members; otherwise random ones, then what the results suggest.

    With sampler tpe or gp and one limit on MACs, Optuna suggests them; else they are offspring of the best. Members
    that are larger than the `largest` sizes of the supernet are left out.
    """
    search, settings = planned.search, planned.search.supernet
    assert settings is not None
    size = max(FEWEST, math.ceil(settings.candidates / GENERATIONS))
    is_small = bool(planned.members.assignments) and len(members) <= settings.candidates
    if is_small or search.sampler in RANDOM_SAMPLERS:
        return _shuffled(members, search.seed)[number * size : (number + 1) * size]
    if number == 0:
        return _shuffled(members, search.seed)[: max(size, math.ceil(FIRST_SHARE * settings.candidates))]
    if search.sampler in ("tpe", "gp") and len(limits_of(search)) == 1:
        proposed = suggest(planned, found, results, size)
    else:
        rng = random.Random(fold_in(search.seed, SEED, number))  # noqa: S311
        parents = [one.member for one in choose_parents(search, list(found.values()), results)]
        proposed = propose(planned.members, parents, found.keys(), size, rng)
    return [with_cost(one, planned.space) for one in proposed if is_held(one.model, largest)]


def suggest(planned: Plan, found: Mapping[str, SupernetMember], results: Evaluated, count: int) -> list[Member]:
    """Return up to `count` new members that Optuna's TPE suggests, which learns from the inherited losses.

    A Gaussian process of a thousand members takes too long, so TPE takes its place too.
    """
    changes = {"sampler": "tpe", "random_fraction": 0.0, "objectives": ("accuracy",), "target": "data"}
    search = planned.search.model_copy(update=changes)
    sampler = CandidateSampler(search, replace(planned, search=search))
    finished = [
        completed_trial(index, found[key].member.params, sampler.distributions, -one.loss)
        for index, (key, one) in enumerate(results.items())
        if math.isfinite(one.loss)
    ]
    members: dict[str, Member] = {}
    for index in range(len(found), len(found) + count):
        draw = sampler.draw(index, finished, found.keys() | members.keys())
        if draw is not None:
            members[draw.key] = draw.member
    return list(members.values())


def _shuffled(members: Sequence[SupernetMember], seed: int) -> list[SupernetMember]:
    return random.Random(fold_in(seed, SEED)).sample(list(members), len(members))  # noqa: S311


def limits_of(search: Search) -> tuple[int, ...]:
    """Return the limits on MACs, rising: those of the supernet, and the budget's, 0 where it has none."""
    assert search.supernet is not None
    most = 0 if search.budget.macs is None else search.budget.macs.max or 0
    return (*search.supernet.budgets, int(most))


def within(results: Sequence[InheritedResult], limit: int) -> list[InheritedResult]:
    """Return the results of members within a limit on MACs, the best first, without those that failed. 0: no limit."""
    known = [one for one in results if math.isfinite(one.loss) and (not limit or one.macs <= limit)]
    return sorted(known, key=loss_order)


def within_latency(search: Search, results: Iterable[InheritedResult]) -> list[InheritedResult]:
    """Return the results of members within the budget's limit on latency, as far as it is known."""
    limit = search.budget.latency
    return [one for one in results if limit is None or one.latency is None or one.latency <= limit.max]


def choose_parents(search: Search, found: Sequence[SupernetMember], results: Evaluated) -> list[SupernetMember]:
    """Return the PARENTS best members within each limit on MACs, and the front over MACs, each once.

    Those over the limit on latency are none, unless all are.
    """
    known, members = list(results.values()), {one.key: one for one in found}
    known = within_latency(search, known) or known
    best = [one for limit in limits_of(search) for one in within(known, limit)[:PARENTS]]
    return [members[key] for key in dict.fromkeys(one.key for one in (*best, *front(known, "macs")))]


def front(results: Sequence[InheritedResult], cost: str) -> list[InheritedResult]:
    """Return the members on the Pareto front of inherited loss and a cost: macs, params or latency."""
    known = [one for one in results if math.isfinite(one.loss) and getattr(one, cost) is not None]
    return [known[index] for index in pareto_front([(one.loss, getattr(one, cost)) for one in known])]


def order_proposals(search: Search, results: Sequence[InheritedResult]) -> list[InheritedResult]:
    """Return the members as candidates, the best first: by loss; with several objectives those on the front first.

    A cost that is not known is the largest.
    """
    ranked = within(results, 0)
    costs = [name for name in search.objectives if name in ("macs", "params", "latency")]
    if not costs:
        return ranked
    points = [
        (one.loss, *(math.inf if (cost := getattr(one, name)) is None else cost for name in costs)) for one in ranked
    ]
    first = pareto_front(points)
    return [ranked[index] for index in (*first, *(one for one in range(len(ranked)) if one not in set(first)))]
