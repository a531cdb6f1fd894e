"""Reference runs: the base with several seeds at the start, confirmation runs of candidates at the end.

Confirmation runs have new seeds, so their results are not biased by the selection of the candidates.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Record, Source, State
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search


def plan_base_runs(search: Search, base: ModelSpec) -> list[Record]:
    """Return the records of the base's trainings, one per seed."""
    first = Record(BASE, State.RUNNING, base, key=key_of(base), source=Source.NAMED)
    return [replace(first, seed=seed) for seed in range(count_base_seeds(search))]


def count_base_seeds(search: Search) -> int:
    """Return the number of seeds of the base, one where trainings do not affect the ranking."""
    return search.proxy.seeds if Ranking(search, ()).uses_training else 1


def plan_confirmations(search: Search, records: Sequence[Record], reference_runs: Sequence[Record]) -> list[Record]:
    """Return the confirmation runs that are still missing, of the best and of random candidates.

    There are none without a completed candidate, and where trainings do not affect the ranking.
    """
    confirm, ranking = search.confirm, Ranking(search, records)
    top = [record for record in records if record.state is State.COMPLETED]
    if confirm is None or not top or not ranking.uses_training:
        return []
    full = confirm.width == "full"
    ranked = sorted(top, key=lambda record: -ranking.value(record))
    chosen = ranked[: confirm.best]
    sampled = [record for record in ranked if record.source is Source.RANDOM]
    rest = sorted((record for record in sampled[1:]), key=lambda record: record.key)
    random.Random(search.seed).shuffle(rest)  # noqa: S311
    chosen += [record for record in (sampled[:1] + rest)[: confirm.random] if record not in chosen]
    base = [record for record in reference_runs if record.number == BASE and record.state is State.COMPLETED][:1]
    existing = {(record.key, record.seed, record.full) for record in reference_runs}
    wanted = [(record, seed + 1) for seed in range(confirm.seeds) for record in chosen]
    if full:
        wanted += [(record, seed) for seed in range(confirm.seeds) for record in base]
    return [
        replace(record, state=State.RUNNING, seed=seed, full=full, rungs=(), reason="")
        for record, seed in wanted
        if (record.key, seed, full) not in existing
    ]


def scores_by_key(reference_runs: Sequence[Record], metric: str) -> dict[str, list[float]]:
    """Return the scores of each reference model over its seeds, of full-width runs only where there are any."""
    found: dict[str, list[float]] = {}
    for record in compared_runs(reference_runs):
        found.setdefault(record.key, []).append(record.score(metric))
    return found


def compared_runs(reference_runs: Sequence[Record]) -> list[Record]:
    """Return the completed reference runs, of full width only where there are any."""
    top = [record for record in reference_runs if record.state is State.COMPLETED]
    return [record for record in top if record.full] or top


def trainings_of(record: Record, reference_runs: Sequence[Record]) -> list[Record]:
    """Return the trainings on which the verdict compares a model, its own where it was not retrained."""
    runs = [run for run in compared_runs(reference_runs) if run.key == record.key]
    return runs or ([record] if record.rungs else [])


def base_seed_std(reference_runs: Sequence[Record], steps: int, metric: str) -> float | None:
    """Return the standard deviation of the base's scores over seeds at a rung, None with fewer than two seeds."""
    rungs = [record.at(steps) for record in reference_runs if record.number == BASE and not record.full]
    scores = [rung.score(metric) for rung in rungs if rung is not None]
    return statistics.stdev(scores) if len(scores) > 1 else None


def pooled_seed_std(reference_runs: Sequence[Record], steps: int, metric: str) -> tuple[float, int] | None:
    """Return the standard deviation of one model's scores over seeds at a rung, and its degrees of freedom.

    It is pooled over the models with several seeds, None where there is no such model.
    """
    groups: dict[str, list[float]] = {}
    for record in reference_runs:
        rung = record.at(steps)
        if rung is not None and not record.full:
            groups.setdefault(record.key, []).append(rung.score(metric))
    several = [scores for scores in groups.values() if len(scores) > 1]
    freedom = sum(len(scores) - 1 for scores in several)
    squares = sum(statistics.variance(scores) * (len(scores) - 1) for scores in several)
    return (math.sqrt(squares / freedom), freedom) if freedom else None


def reserved_seconds(
    search: Search, records: Sequence[Record], reference_runs: Sequence[Record], workers: int
) -> float:
    """Return the seconds to reserve for the confirmation runs at the end, half of the timeout at most.

    They are estimated from the completed trainings of the base, or of candidates where the base has none. For
    full-width confirmation runs they are half of the timeout.
    """
    if search.confirm is None or search.timeout is None or not Ranking(search, ()).uses_training:
        return 0.0
    if search.confirm.width == "full":
        return search.timeout / 2
    base = [record.seconds for record in reference_runs if record.number == BASE and record.state is State.COMPLETED]
    seconds = base or [record.seconds for record in records if record.state is State.COMPLETED]
    trainings = (search.confirm.best + search.confirm.random) * search.confirm.seeds
    needed = 1.3 * statistics.fmean(seconds) * -(-trainings // workers) if seconds else 0.0
    return min(needed, search.timeout / 2)
