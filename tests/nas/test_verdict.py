"""Statistics checked by hand: gains, intervals, the comparison at equal compute, correlations, sentences."""

import math
import random
from dataclasses import replace

import numpy as np
import pytest
from scipy import stats

from t2tbuild import load_spec
from t2tbuild.nas.correlations import (
    MIN_PAIRS,
    compute_correlations,
    correlate,
    kendall,
    largest_equal_macs_group,
    rung_score,
    select_zero_cost_proxy,
    spearman,
)
from t2tbuild.nas.learned import has_learned
from t2tbuild.nas.record import BASE, Record, Rung, Source, State
from t2tbuild.nas.reference_runs import base_seed_std, plan_confirmations, pooled_seed_std, reserved_seconds
from t2tbuild.nas.report_sections import summarize_rung
from t2tbuild.nas.verdict import Interval, compare_equal_compute, decide, mean_difference
from t2tbuild.spec.search import Search

MODEL = load_spec("t2t_vit_14").model


def record(
    number: str,
    *accuracies: float,
    source: Source = Source.SAMPLER,
    seed: int = 0,
    state: State = State.COMPLETED,
    seconds: float = 1.0,
) -> Record:
    rungs = tuple(Rung(10 * (at + 1), one, math.exp(-one), seconds) for at, one in enumerate(accuracies))
    return Record(number, state, MODEL, key=number, source=source, seed=seed, rungs=rungs, macs=10**9, params=10**6)


def base(*accuracies: float) -> list[Record]:
    return [record(BASE, one, source=Source.NAMED, seed=seed) for seed, one in enumerate(accuracies)]


def confirmed(number: str, *accuracies: float, source: Source = Source.SAMPLER) -> list[Record]:
    return [record(number, one, source=source, seed=seed + 1) for seed, one in enumerate(accuracies)]


def search(**fields: object) -> Search:
    given = {"base": "t2t_vit_14", "budget": {"macs": "5G"}, "space": {"backbone.depth": {"fill": [0.7, 1.0]}}}
    return Search.model_validate(given | fields)


def test_luck_is_seldom_taken_for_a_gain() -> None:
    """Base and candidates of the same quality: the best of five seldom gets a significant gain over the base."""
    rng, claims = np.random.default_rng(7), 0
    for _ in range(400):
        candidates = [record(str(number), 0.5) for number in range(5)]
        reference_runs = base(*rng.normal(0.5, 0.1, 3))
        for one in candidates:
            reference_runs += confirmed(one.number, *rng.normal(0.5, 0.1, 3))
        verdict = decide(candidates, reference_runs, "accuracy")
        assert verdict is not None
        claims += verdict.sentence.startswith("Candidate")
    assert claims <= 0.05 * 400


def test_a_gain_beyond_the_noise_is_claimed() -> None:
    candidates = [record("1", 0.9), record("2", 0.7, source=Source.RANDOM)]
    candidates += [record(f"s{one}", 0.88 + one / 100) for one in range(4)]
    candidates += [record(f"r{one}", 0.65 + one / 100, source=Source.RANDOM) for one in range(4)]
    reference_runs = [
        *base(0.70, 0.71, 0.69),
        *confirmed("1", 0.90, 0.91, 0.89),
        *confirmed("2", 0.70, 0.69, 0.71, source=Source.RANDOM),
    ]
    verdict = decide(candidates, reference_runs, "accuracy")
    assert verdict is not None
    assert verdict.winner.number == "1"
    assert verdict.sentence.startswith("Candidate 1 beats the base")
    assert "also beats random search" in verdict.sentence
    alone = decide(candidates[:2], reference_runs, "accuracy")  # one candidate per source gives no interval
    assert alone is not None
    assert alone.sentence.endswith("no evidence that the sampler beats random search.")
    assert [gain.seeds for gain in verdict.gains] == [(3, 3), (3, 3)]
    assert verdict.gains[0].difference.value == pytest.approx(0.2)


def test_a_gain_within_the_noise_is_not() -> None:
    reference_runs = [*base(0.70, 0.80, 0.90), *confirmed("1", 0.75, 0.85, 0.95)]
    verdict = decide([record("1", 0.99)], reference_runs, "accuracy")
    assert verdict is not None
    assert verdict.winner.number == "1"
    assert verdict.sentence == (
        "No evidence of improvement over the base. Candidate 1 wins with the best mean validation accuracy of the "
        "retrained, but the interval of its gain includes zero."
    )
    low, high = verdict.gains[0].difference.low, verdict.gains[0].difference.high
    assert low is not None
    assert high is not None
    assert low < 0 < high


def test_a_lucky_training_does_not_make_a_winner() -> None:
    """Candidate 1 was best when it was chosen, but not in its confirmation runs."""
    candidates = [record("1", 0.99), record("2", 0.95)]
    verdict = decide(candidates, [*base(0.6, 0.61), *confirmed("1", 0.7, 0.71), *confirmed("2", 0.9, 0.91)], "accuracy")
    assert verdict is not None
    assert verdict.winner.number == "2"


def test_the_base_may_win() -> None:
    verdict = decide([record("1", 0.99)], [*base(0.9, 0.91), *confirmed("1", 0.7, 0.71)], "accuracy")
    assert verdict is not None
    assert verdict.winner.number == BASE
    assert verdict.sentence.startswith("No evidence of improvement") and "beats the base" in verdict.sentence


def test_a_random_winner_is_no_evidence_for_the_sampler() -> None:
    reference_runs = [*base(0.5, 0.51, 0.49), *confirmed("1", 0.9, 0.91, 0.89, source=Source.RANDOM)]
    verdict = decide([record("1", 0.9, source=Source.RANDOM)], reference_runs, "accuracy")
    assert verdict is not None
    assert "sampled at random" in verdict.sentence


def test_without_confirmation_nothing_is_claimed() -> None:
    verdict = decide([record("1", 0.99)], base(0.5, 0.5), "accuracy")
    assert verdict is not None
    assert verdict.winner.number == "1"
    assert verdict.sentence.startswith("No evidence of improvement: no candidate was retrained")
    assert decide([record("1", 0.5, state=State.PRUNED)], [], "accuracy") is None


def at_chance(number: str, loss: float, accuracy: float, seeds: int = 3) -> list[Record]:
    """Trainings whose losses differ by next to nothing over seeds, so that any difference is significant."""
    source = Source.NAMED if number == BASE else Source.SAMPLER
    return [
        replace(record(number, accuracy, source=source, seed=seed), rungs=(Rung(5, accuracy, loss + seed / 1e4, 1.0),))
        for seed in range(seeds)
    ]


def test_nothing_is_claimed_at_chance_level() -> None:
    """Ten classes: ln(10) is 2.303, so losses of 2.278 and 2.298 are both a guess, however small the noise is."""
    candidate, base_runs = at_chance("1", 2.278, 0.14), at_chance(BASE, 2.298, 0.10)
    verdict = decide(candidate[:1], [*base_runs, *candidate], "loss", num_classes=10)
    assert verdict is not None
    assert verdict.winner.number == BASE
    assert not verdict.gains
    assert verdict.sentence.startswith("No evidence of improvement: nothing has learned yet")
    assert "search.proxy.rungs" in verdict.sentence and "2.303" in verdict.sentence and "2.278" in verdict.sentence
    unconfirmed = decide(candidate[:1], base_runs, "loss", num_classes=10)
    assert unconfirmed is not None and "nothing has learned yet" in unconfirmed.sentence


def test_a_gain_is_claimed_where_the_winner_or_the_base_has_learned() -> None:
    base_runs = at_chance(BASE, 2.298, 0.10)
    for loss, accuracy in ((2.1, 0.15), (2.29, 0.4)):  # by its loss, or by its accuracy alone
        candidate = at_chance("1", loss, accuracy)
        verdict = decide(candidate[:1], [*base_runs, *candidate], "loss", num_classes=10)
        assert verdict is not None
        assert verdict.sentence.startswith("Candidate 1 beats the base")
    both = [*at_chance(BASE, 2.298, 0.4), *at_chance("1", 2.29, 0.1)]  # the base has learned, by its accuracy
    verdict = decide(both[3:4], both, "loss", num_classes=10)
    assert verdict is not None and "nothing has learned" not in verdict.sentence


@pytest.mark.parametrize(("classes", "images"), [(2, 900), (10, 100), (100, 10)])
def test_a_guess_has_not_learned(classes: int, images: int) -> None:
    """The accuracy of a guess on so many validation images: at most one in a hundred is taken for more than chance."""
    accuracies = np.random.default_rng(0).binomial(images, 1 / classes, 2000) / images
    learned = [has_learned(at_chance("1", math.log(classes), one, seeds=1), classes) for one in accuracies]
    assert np.mean(learned) <= 0.01


def test_the_interval_is_welchs_where_seeds_are_few() -> None:
    """Three against three: t with 4 degrees of freedom is 2.776, the standard error 0.1 * sqrt(2 / 3)."""
    found = mean_difference([1.0, 1.1, 1.2], [0.0, 0.1, 0.2])
    assert found.value == pytest.approx(1.0)
    assert found.low == pytest.approx(1.0 - 2.776 * 0.1 * math.sqrt(2 / 3), abs=1e-3)
    assert mean_difference([1.0], [0.0, 0.1]) == Interval(pytest.approx(0.95))


def test_without_a_spread_over_seeds_there_is_no_interval() -> None:
    assert mean_difference([1.0, 1.0], [0.0, 0.0]) == Interval(1.0)
    assert mean_difference([1.0, 1.0], [0.0, 0.1]).low is not None


def test_the_comparison_ends_at_equal_seconds() -> None:
    """Sampled candidates trained for 3 s, random ones for 2 s: a result of the third second does not count."""
    mine = [record(str(one), score) for one, score in enumerate((0.5, 0.6, 0.9))]
    theirs = [record(str(one), score, source=Source.RANDOM) for one, score in enumerate((0.55, 0.4), start=3)]
    equal_compute = compare_equal_compute([*mine, *theirs], "accuracy")
    assert equal_compute is not None
    assert (equal_compute.seconds, equal_compute.sampler, equal_compute.random) == (2.0, 0.6, 0.55)
    assert equal_compute.gain.value == pytest.approx(0.05)
    assert equal_compute.gain.low is None  # of three against two nothing is known
    assert compare_equal_compute(mine, "accuracy") is None


def test_seconds_of_pruned_candidates_count() -> None:
    stopped = record("0", 0.1, state=State.PRUNED, seconds=5.0)
    equal_compute = compare_equal_compute(
        [stopped, record("1", 0.8), record("2", 0.5, source=Source.RANDOM, seconds=6.0)], "accuracy"
    )
    assert equal_compute is not None
    assert (equal_compute.seconds, equal_compute.sampler) == (6.0, 0.8)


def test_equal_sources_do_not_differ_and_clearly_different_ones_do() -> None:
    rng = np.random.default_rng(3)
    mine, theirs = rng.normal(0.5, 0.1, 12), rng.normal(0.5, 0.1, 12)
    for lead, sure in ((0.0, False), (0.6, True)):
        field = [record(f"s{at}", one + lead) for at, one in enumerate(mine)]
        field += [record(f"r{at}", one, source=Source.RANDOM) for at, one in enumerate(theirs)]
        equal_compute = compare_equal_compute(field, "accuracy", noise=0.05)
        assert equal_compute is not None
        assert equal_compute.gain.above_zero is sure
    quiet = compare_equal_compute(field, "accuracy")
    assert quiet is not None
    assert equal_compute.gain.low is not None and quiet.gain.low is not None
    assert equal_compute.gain.low < quiet.gain.low  # the noise of seeds widens it


def test_seeds_are_pooled_over_the_models_that_have_several() -> None:
    reference_runs = [*base(0.5, 0.6, 0.7), *confirmed("1", 0.9, 0.9), *confirmed("2", 0.3)]
    found = pooled_seed_std(reference_runs, 10, "accuracy")
    assert found == (pytest.approx(math.sqrt(0.02 / 3)), 3)
    assert pooled_seed_std(base(0.5), 10, "accuracy") is None


def test_the_noise_floor_is_the_bases_spread() -> None:
    assert base_seed_std(base(0.5, 0.6, 0.7), 10, "accuracy") == pytest.approx(0.1)
    assert base_seed_std(base(0.5), 10, "accuracy") is None
    assert base_seed_std(base(0.5, 0.6), 20, "accuracy") is None


def test_which_candidates_are_confirmed_with_which_seeds() -> None:
    records = [
        record("a", 0.9),
        record("b", 0.8, source=Source.RANDOM),
        record("c", 0.95),
        record("d", 0.7, source=Source.RANDOM),
        record("e", 0.99, state=State.PRUNED),
    ]
    spec = search(confirm={"best": 1, "random": 1, "seeds": 2}, proxy={"metric": "accuracy"})
    planned = plan_confirmations(spec, records, base(0.5))
    assert [(one.number, one.seed) for one in planned] == [("c", 1), ("b", 1), ("c", 2), ("b", 2)]
    assert all(one.state is State.RUNNING and not one.rungs for one in planned)
    assert plan_confirmations(spec, records, [*base(0.5), *planned]) == []
    full = search(confirm={"best": 1, "random": 0, "seeds": 1, "width": "full"}, proxy={"metric": "accuracy"})
    assert [(one.number, one.seed, one.full) for one in plan_confirmations(full, records, base(0.5))] == [
        ("c", 1, True),
        (BASE, 0, True),
    ]
    assert plan_confirmations(search(confirm=None), records, base(0.5)) == []


def test_time_is_kept_for_the_confirmations() -> None:
    spec = search(confirm={"best": 1, "random": 1, "seeds": 2}, timeout="100s")
    trained = [replace(one, rungs=(Rung(10, 0.5, 1.0, 10.0),)) for one in base(0.5, 0.6)]
    assert reserved_seconds(spec, [], trained, workers=1) == 50.0  # 4 trainings of 13 s, half of the time at most
    assert reserved_seconds(spec, [], trained, workers=2) == pytest.approx(26.0)
    assert reserved_seconds(spec, [], [], workers=1) == 0.0
    assert reserved_seconds(spec, [record("1", 0.5, seconds=5.0)], [], workers=2) == pytest.approx(
        13.0
    )  # the base is over budget
    assert reserved_seconds(search(confirm={"width": "full"}, timeout="100s"), [], [], workers=2) == 50.0
    assert reserved_seconds(search(confirm=None, timeout="100s"), [], trained, workers=1) == 0.0


def many(count: int, noise: float) -> list[Record]:
    rng = random.Random(1)
    found = []
    for at in range(count):
        one = record(str(at), at / count, at / count + rng.gauss(0, noise))
        found.append(replace(one, macs=10**9 + 10**6 * at, scores={"naswot": at, "snip": rng.random()}))
    return found


def test_correlations_have_honest_intervals() -> None:
    found = {(one.first, one.second): one for one in compute_correlations(many(30, 0.02), (10, 20), "accuracy")}
    sure, none = found["naswot", "rung 20"].tau, found["snip", "rung 20"].tau
    assert sure is not None
    assert none is not None
    assert sure.low is not None
    assert sure.low > 0.7
    assert none.low is not None
    assert none.high is not None
    assert none.low < 0 < none.high
    steps = found["rung 10", "rung 20"]
    assert steps.pairs == 30
    assert steps.rho is not None
    assert steps.rho.value > 0.9
    assert found["depth", "rung 20"].tau is None  # all are as deep


def test_correlations_are_scipys() -> None:
    """With ties on both sides, and for a resample given by counts or written out."""
    generator = np.random.default_rng(3)
    for size in (5, 12, 40):
        x, y = generator.integers(0, 6, size).astype(float), generator.integers(0, 6, size).astype(float)
        counts = generator.multinomial(size, np.full(size, 1 / size), 4)
        for row in counts:
            a, b = np.repeat(x, row), np.repeat(y, row)
            assert kendall(x, y, row[None].astype(float))[0] == pytest.approx(stats.kendalltau(a, b).statistic)
            assert spearman(x, y, row[None].astype(float))[0] == pytest.approx(stats.spearmanr(a, b).statistic)


def test_few_pairs_have_no_correlation() -> None:
    few = many(MIN_PAIRS - 1, 0.0)
    assert correlate(few, ("a", rung_score(10, "accuracy")), ("b", rung_score(20, "accuracy"))).tau is None


def test_the_band_is_of_nearly_equal_macs() -> None:
    records = [replace(record(str(macs), 0.5), macs=macs) for macs in (100, 97, 95, 90, 80, 79)]
    assert sorted(one.macs or 0 for one in largest_equal_macs_group(records)) == [95, 97, 100]


def test_a_zero_cost_proxy_is_selected_by_its_correlation() -> None:
    spec = search(
        zero_cost={"names": ["naswot", "snip"], "pool": 4, "threshold": 0.5},
        proxy={"metric": "accuracy", "rungs": [10, 20], "warmup_steps": 1},
    )
    assert select_zero_cost_proxy(many(30, 0.01), spec) == "naswot"
    assert select_zero_cost_proxy(many(30, 3.0), spec) is None
    assert select_zero_cost_proxy(many(4, 0.0), spec) is None
    never = spec.model_copy(update={"zero_cost": spec.zero_cost.model_copy(update={"threshold": None})})
    assert select_zero_cost_proxy(many(30, 0.01), never) is None


def test_a_rung_of_equal_results_does_not_discriminate() -> None:
    equal, reference_runs = [record(str(one), 0.5) for one in range(5)], base(0.5, 0.5, 0.5)
    rung = summarize_rung(equal, reference_runs, "accuracy", equal[0].steps)
    assert rung["discriminates"] == "no: all results are equal"
    noisy = summarize_rung([*equal[:4], record("4", 0.51)], base(0.4, 0.5, 0.6), "accuracy", equal[0].steps)
    assert noisy["discriminates"].startswith("no: the spread is within seed noise, 0.1 over all models")
