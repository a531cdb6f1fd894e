"""How many specs a second the closed form counts, beside building the module and counting it with fvcore.

    python benchmarks/cost.py

Specs as the search draws them: random assignments of search/deep_narrow.yaml, each at a random depth within 5G MACs.
In each round the closed form counts all of them and fvcore one, so that a slow moment falls on both; one thread each.
The closed form remembers the shapes of blocks, which candidates share; it forgets them before each round.
Measured on 2026-11-23, medians of 25 rounds (spread): closed form 23,379 specs/s (14,292 to 24,085), building and
fvcore 2.70 (2.07 to 4.45), ratio 8,048 (4,146 to 11,661).
"""

import itertools
import random
import statistics
import time

import torch

from t2tbuild import build_model, load_search_spec, load_spec, measure_cost, predict_cost
from t2tbuild.cost import closed_form
from t2tbuild.nas.budget import deepest
from t2tbuild.nas.space import Space
from t2tbuild.spec import ModelSpec

SPECS, ROUNDS = 500, 25


def drawn() -> list[ModelSpec]:
    """Candidates within the budget, as many as are wanted."""
    search = load_search_spec("deep_narrow").search
    base = load_spec(search.base).model
    assert isinstance(base, ModelSpec)
    space, chance = Space(search, base), random.Random(0)
    found: list[ModelSpec] = []
    for assignment in itertools.cycle(space.assignments()):
        most = deepest(space, assignment, search.budget)
        if most:
            found.append(space.model(assignment, chance.randint(max(1, round(0.7 * most)), most)))
        if len(found) == SPECS:
            return chance.sample(found, SPECS)
    return found


def main() -> None:
    torch.set_num_threads(1)
    specs = drawn()
    measure_cost(build_model(specs[0]))  # fvcore's own start-up
    closed, counted = [], []
    for number in range(ROUNDS):
        for remembering in (closed_form._block, closed_form._token_attention):
            remembering.cache_clear()
        started = time.perf_counter()
        for spec in specs:
            predict_cost(spec)
        closed.append((time.perf_counter() - started) / len(specs))
        started = time.perf_counter()
        cost = measure_cost(build_model(specs[number]))
        counted.append(time.perf_counter() - started)
        assert cost == predict_cost(specs[number])
    for name, seconds in (("closed form", closed), ("build and fvcore", counted)):
        rates = sorted(1 / one for one in seconds)
        print(f"{name:18} {statistics.median(rates):12,.2f} specs/s   {rates[0]:,.2f} to {rates[-1]:,.2f}")
    ratios = [slow / fast for slow, fast in zip(counted, closed, strict=True)]
    print(f"ratio              {statistics.median(ratios):12,.0f}           {min(ratios):,.0f} to {max(ratios):,.0f}")


if __name__ == "__main__":
    main()
