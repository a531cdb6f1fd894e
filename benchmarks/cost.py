"""How many specs a second the closed form counts, beside building the module and counting it with fvcore.

    python benchmarks/cost.py

Specs as the search draws them: random assignments of search/deep_narrow.yaml, each at a random depth within 5G MACs.
In each round the closed form counts all of them and fvcore one, so that a slow moment falls on both; one thread each.
The closed form remembers the shapes of blocks, which candidates share: the first round shows it without that.
Every count of fvcore is held against the closed form's. Measured on 2026-11-23, medians of
25 rounds (spread): closed form 20,001 specs/s (13,127 to 24,344), 13,317 the first time that shapes are met; building
and fvcore 2.36 (1.25 to 4.11); ratio 8,187 (4,554 to 13,414).
"""

import itertools
import random
import statistics
import time

import torch

from t2tbuild import build_model, load_search_spec, load_spec, measure_cost, predict_cost
from t2tbuild.cost import closed_form
from t2tbuild.search.budget import deepest
from t2tbuild.search.space import Space
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
    for remembering in (closed_form._block, closed_form._token_attention):
        remembering.cache_clear()
    closed, counted = [], []
    for number in range(ROUNDS):
        started = time.perf_counter()
        for spec in specs:
            predict_cost(spec)
        closed.append((time.perf_counter() - started) / len(specs))
        started = time.perf_counter()
        cost = measure_cost(build_model(specs[number]))
        counted.append(time.perf_counter() - started)
        assert cost == predict_cost(specs[number])
    print(f"closed form, the first time that shapes are met: {1 / closed[0]:,.0f} specs/s")
    for name, seconds in (("closed form", closed), ("build and fvcore", counted)):
        rates = sorted(1 / one for one in seconds)
        print(f"{name:18} {statistics.median(rates):12,.2f} specs/s   {rates[0]:,.2f} to {rates[-1]:,.2f}")
    ratios = [slow / fast for slow, fast in zip(counted, closed, strict=True)]
    print(f"ratio              {statistics.median(ratios):12,.0f}           {min(ratios):,.0f} to {max(ratios):,.0f}")


if __name__ == "__main__":
    main()
