"""Measure how many specs per second the closed form counts, compared with building the module and running fvcore.

    python benchmarks/cost.py

The specs are random assignments of search/deep_narrow.yaml, each at a random depth within 5G MACs. In each round, the
closed form counts all of them and fvcore counts one, so that a slow phase affects both; one thread each. The caches of
shapes and tokenizers, which candidates share, are emptied before each round: the rate is given for the first 500
specs, for all 5,000, and for all once more with the caches filled.
Seconds are those of CPU time. Measured on 2026-11-30 beside another benchmark on two cores, medians of 15 rounds
(spread): 5,824 specs/s (1,765 to 6,224) for the first 500, 10,916 (6,796 to 11,368) for 5,000, 12,488 (7,874 to 13,260)
with filled caches; building and fvcore 1.51 (0.94 to 4.45), ratio 5,938 (2,424 to 12,136).
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
from t2tbuild.symbolic import block
from t2tbuild.symbolic import model as symbolic

FIRST, SPECS, ROUNDS = 500, 5_000, 15


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


def seconds_of(specs: list[ModelSpec]) -> float:
    """Return the CPU seconds that the closed form takes for one spec."""
    started = time.process_time()
    for spec in specs:
        predict_cost(spec)
    return (time.process_time() - started) / len(specs)


def main() -> None:
    torch.set_num_threads(1)
    specs = sample_specs()
    measure_cost(build_model(specs[0]))  # fvcore's own start-up
    first, predicted, filled, counted = [], [], [], []
    for number in range(ROUNDS):
        for cache in (symbolic._count, symbolic._tokenizer_parts, block._block_shapes):
            cache.cache_clear()
        first.append(seconds_of(specs[:FIRST]))
        predicted.append((first[-1] * FIRST + seconds_of(specs[FIRST:]) * (SPECS - FIRST)) / SPECS)
        filled.append(seconds_of(specs))
        started = time.process_time()
        cost = measure_cost(build_model(specs[number]))
        counted.append(time.process_time() - started)
        assert cost == predict_cost(specs[number])
    rows = {
        f"closed form, {FIRST:,} specs": first,
        f"closed form, {SPECS:,} specs": predicted,
        "the same, caches filled": filled,
        "build and fvcore": counted,
    }
    for name, seconds in rows.items():
        rates = sorted(1 / one for one in seconds)
        print(f"{name:26} {statistics.median(rates):12,.2f} specs/s   {rates[0]:,.2f} to {rates[-1]:,.2f}")
    ratios = [slow / fast for slow, fast in zip(counted, predicted, strict=True)]
    print(f"{'ratio':26} {statistics.median(ratios):12,.0f}           {min(ratios):,.0f} to {max(ratios):,.0f}")


if __name__ == "__main__":
    main()
