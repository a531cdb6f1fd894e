"""Trainings beside the search itself: the base with several seeds first, and the best and random candidates at the end.

Their seeds are not those by which candidates were chosen, so what they show is not the luck of the choice.
"""

import math
import random
import statistics
from collections.abc import Sequence
from dataclasses import replace

from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import BASE, Record, Source, State, key_of
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search


def base_trainings(search: Search, base: ModelSpec) -> list[Record]:
    """The base's trainings, one for each of its seeds."""
    first = Record(BASE, State.CLIMBING, base, key=key_of(base), arm=Source.NAMED)
    return [replace(first, seed=seed) for seed in range(base_seeds(search))]


def base_seeds(search: Search) -> int:
    """With how many seeds the base is trained: a single one where trainings do not count."""
    return search.proxy.seeds if Ranking(search, ()).training_counts else 1


def confirmations(search: Search, records: Sequence[Record], repeats: Sequence[Record]) -> list[Record]:
    """The trainings that confirm what was found and are not there yet.

    There are none where nothing reached the highest rung, and where trainings do not count.
    """
    confirm, ranking = search.confirm, Ranking(search, records)
    top = [record for record in records if record.state is State.TOP]
    if confirm is None or not top or not ranking.training_counts:
        return []
    full = confirm.width == "full"
    ranked = sorted(top, key=lambda record: -ranking.value(record))
    chosen = ranked[: confirm.best]
    by_chance = [record for record in ranked if record.arm is Source.RANDOM]
    rest = sorted((record for record in by_chance[1:]), key=lambda record: record.key)
    random.Random(search.seed).shuffle(rest)  # noqa: S311
    chosen += [record for record in (by_chance[:1] + rest)[: confirm.random] if record not in chosen]
    base = [record for record in repeats if record.number == BASE and record.state is State.TOP][:1]
    there = {(record.key, record.seed, record.full) for record in repeats}
    wanted = [(record, seed + 1) for seed in range(confirm.seeds) for record in chosen]
    if full:
        wanted += [(record, seed) for seed in range(confirm.seeds) for record in base]
    return [
        replace(record, state=State.CLIMBING, seed=seed, full=full, rungs=(), reason="")
        for record, seed in wanted
        if (record.key, seed, full) not in there
    ]


def noise_floor(repeats: Sequence[Record], steps: int, metric: str) -> float | None:
    """The standard deviation of the base's scores over its seeds at a rung; None before two of them were there."""
    rungs = [record.at(steps) for record in repeats if record.number == BASE and not record.full]
    scores = [rung.score(metric) for rung in rungs if rung is not None]
    return statistics.stdev(scores) if len(scores) > 1 else None


def seed_spread(repeats: Sequence[Record], steps: int, metric: str) -> tuple[float, int] | None:
    """By how much seeds make one model differ at a rung: a standard deviation and its degrees of freedom.

    It is pooled over the models that were trained with several seeds; None where there is no such model.
    """
    groups: dict[str, list[float]] = {}
    for record in repeats:
        rung = record.at(steps)
        if rung is not None and not record.full:
            groups.setdefault(record.key, []).append(rung.score(metric))
    several = [scores for scores in groups.values() if len(scores) > 1]
    freedom = sum(len(scores) - 1 for scores in several)
    squares = sum(statistics.variance(scores) * (len(scores) - 1) for scores in several)
    return (math.sqrt(squares / freedom), freedom) if freedom else None


def reserve(search: Search, records: Sequence[Record], repeats: Sequence[Record], workers: int) -> float:
    """Seconds that the confirmations need at the end: half of the time at most, and where originals are trained again.

    It is told by the trainings that reached the top so far, the base's or, where that is over budget, candidates'.
    """
    if search.confirm is None or search.timeout is None or not Ranking(search, ()).training_counts:
        return 0.0
    if search.confirm.width == "full":
        return search.timeout / 2
    base = [record.seconds for record in repeats if record.number == BASE and record.state is State.TOP]
    seconds = base or [record.seconds for record in records if record.state is State.TOP]
    trainings = (search.confirm.best + search.confirm.random) * search.confirm.seeds
    needed = 1.3 * statistics.fmean(seconds) * -(-trainings // workers) if seconds else 0.0
    return min(needed, search.timeout / 2)
