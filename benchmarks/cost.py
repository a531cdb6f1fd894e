"""Measure how many specs per second the closed form counts, compared with building the module and running fvcore.

    python benchmarks/cost.py

The specs are random assignments of search/deep_narrow.yaml, each at a random depth within 5G MACs. In each round, the
closed form counts all of them and fvcore counts one, so that a slow phase affects both; one thread each. The caches of
shapes and tokenizers, which candidates share, are cleared before each round.
Seconds are those of CPU time. Measured on 2026-11-30 on two cores with ten other processes, medians of 25 rounds
(spread): closed form 5,510 specs/s (2,659 to 5,799), building and fvcore 1.51 (0.96 to 6.14), ratio 3,356 (850 to
5,850). Without other load, fvcore counted 2.70 specs/s on 2026-11-23.
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
        started = time.process_time()
        for spec in specs:
            predict_cost(spec)
        predicted.append((time.process_time() - started) / len(specs))
        started = time.process_time()
        cost = measure_cost(build_model(specs[number]))
        counted.append(time.process_time() - started)
        assert cost == predict_cost(specs[number])
    for name, seconds in (("closed form", predicted), ("build and fvcore", counted)):
        rates = sorted(1 / one for one in seconds)
        print(f"{name:18} {statistics.median(rates):12,.2f} specs/s   {rates[0]:,.2f} to {rates[-1]:,.2f}")
    ratios = [slow / fast for slow, fast in zip(counted, predicted, strict=True)]
    print(f"ratio              {statistics.median(ratios):12,.0f}           {min(ratios):,.0f} to {max(ratios):,.0f}")


if __name__ == "__main__":
    main()
