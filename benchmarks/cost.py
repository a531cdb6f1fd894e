"""Measure how many specs per second the closed form counts, compared with building the module and running fvcore.

    python benchmarks/cost.py

The specs are random assignments of search/deep_narrow.yaml, each at a random depth within 5G MACs. In each round, the
closed form counts all of them and fvcore counts one, so that a slow phase affects both; one thread each. The caches of
shapes and tokenizers, which candidates share, are cleared before each round.
Measured on 2026-11-23, medians of 25 rounds (spread): closed form 23,379 specs/s (14,292 to 24,085), building and
fvcore 2.70 (2.07 to 4.45), ratio 8,048 (4,146 to 11,661).
"""

import contextlib
import itertools
import random
import statistics
import time

import torch

from t2tbuild import build_model, load_search_spec, load_spec, measure_cost, predict_cost
from t2tbuild.nas.budget import Infeasible, solved_range
from t2tbuild.nas.space import Space
from t2tbuild.spec import ModelSpec
from t2tbuild.symbolic import model as symbolic

SPECS, ROUNDS = 500, 25


def sample_specs() -> list[ModelSpec]:
    """Return SPECS random candidates within the budget."""
    search = load_search_spec("deep_narrow").search
    base = load_spec(search.base).model
    assert isinstance(base, ModelSpec)
    space, generator = Space(search, base), random.Random(0)
    found: list[ModelSpec] = []
    for assignment in itertools.cycle(space.assignments()):
        with contextlib.suppress(Infeasible):
            low, high = solved_range(space, assignment, search.budget)
            found.append(space.model(assignment, generator.randint(low, high)))
        if len(found) == SPECS:
            return generator.sample(found, SPECS)
    return found


def main() -> None:
    torch.set_num_threads(1)
    specs = sample_specs()
    measure_cost(build_model(specs[0]))  # fvcore's own start-up
    predicted, counted = [], []
    for number in range(ROUNDS):
        symbolic._count.cache_clear()
        symbolic._tokenizer_parts.cache_clear()
        started = time.perf_counter()
        for spec in specs:
            predict_cost(spec)
        predicted.append((time.perf_counter() - started) / len(specs))
        started = time.perf_counter()
        cost = measure_cost(build_model(specs[number]))
        counted.append(time.perf_counter() - started)
        assert cost == predict_cost(specs[number])
    for name, seconds in (("closed form", predicted), ("build and fvcore", counted)):
        rates = sorted(1 / one for one in seconds)
        print(f"{name:18} {statistics.median(rates):12,.2f} specs/s   {rates[0]:,.2f} to {rates[-1]:,.2f}")
    ratios = [slow / fast for slow, fast in zip(counted, predicted, strict=True)]
    print(f"ratio              {statistics.median(ratios):12,.0f}           {min(ratios):,.0f} to {max(ratios):,.0f}")


if __name__ == "__main__":
    main()
