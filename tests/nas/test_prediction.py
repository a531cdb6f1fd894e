"""A search for ImageNet accuracy ranks by prediction, updated by valid evidence."""

import csv
import itertools
import json
import math
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from t2tbuild import load_search_spec, load_spec, predict_accuracy, predict_cost, search
from t2tbuild.accuracy.features import shape_of
from t2tbuild.accuracy.predictor import shipped_predictor
from t2tbuild.accuracy.validity import PROXY_TRAINING, Validity, validity_of
from t2tbuild.cost.budget import is_within
from t2tbuild.errors import FieldError
from t2tbuild.nas import worker as worker_module
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import plan
from t2tbuild.nas.predicted_verdict import decide_by_prediction, find_equals
from t2tbuild.nas.proxy import resolve_width
from t2tbuild.nas.ranking import Ranking, proxy_validity, training_configuration, zero_cost_configuration
from t2tbuild.nas.record import BASE, Record, Rung, Source, State
from t2tbuild.nas.reference_runs import plan_base_runs, plan_confirmations
from t2tbuild.spec import ModelSpec, SearchSpec, catalog
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.with_changes import with_changes
from tests.nas.conftest import FakeTrainer, tiny_search

VALID = Validity(PROXY_TRAINING, {}, models=16, tau=0.6, low=0.2, high=0.8, pairs_right=7, pairs=7)
INVALID = replace(VALID, tau=-0.55, low=-0.8, high=-0.2, pairs_right=2)
SMALL_SPACE = "search.space={backbone.embed_dim: {choices: [384, 640]}, backbone.depth: {fill: [0.9, 1.0]}}"


def deep_narrow(*overrides: str) -> SearchSpec:
    return load_search_spec("deep_narrow", list(overrides))


def shallow_wins(model: ModelSpec) -> float:
    """A proxy that prefers shallow models, as the default one does."""
    return 0.9 - 0.02 * model.backbone.depth


# Target


@pytest.mark.parametrize(
    ("overrides", "target"),
    [
        ((), "imagenet"),
        (("search.target=data",), "data"),
        (("search.proxy.data={kind: cifar10}", "search.target=auto"), "data"),
        (("search.base=t2t_vit_14", "search.proxy.data={kind: fake}"), "imagenet"),
    ],
)
def test_the_target(overrides: tuple[str, ...], target: str) -> None:
    planned = plan(deep_narrow(*overrides))
    assert planned.target == planned.search.target == target


def test_a_base_below_the_minimum_is_unchanged() -> None:
    assert plan(deep_narrow("search.budget={macs: {max: 8G, min: 6G}}")).base == load_spec("t2t_vit_14").model


def test_the_target_is_data_where_nothing_is_predicted(tmp_path: Path) -> None:
    assert plan(tiny_search(tmp_path)).target == "data"
    with pytest.raises(FieldError, match="the base small has no predicted accuracy") as caught:
        plan(tiny_search(tmp_path, "search.target=imagenet"))
    assert "write target: data" in str(caught.value)


# The base


def test_a_base_within_the_budget_is_unchanged() -> None:
    planned = plan(deep_narrow())
    assert planned.base == load_spec("t2t_vit_14").model
    assert planned.warnings == ()


def test_a_base_over_the_budget_is_scaled_and_the_warning_names_one_that_fits() -> None:
    planned = plan(deep_narrow("search.budget={macs: 2500M}"))
    named, base = load_spec("t2t_vit_14").model, planned.base
    assert isinstance(named, ModelSpec)
    assert is_within(base, planned.search.budget)
    assert base.tokenizer == named.tokenizer
    assert base.backbone.mlp_ratio == named.backbone.mlp_ratio
    assert base.backbone.depth >= 10
    assert base.name == f"t2t_vit_14_{base.backbone.depth}x{base.backbone.embed_dim}"
    (warning,) = planned.warnings
    assert warning.rule == "base-over-budget"
    assert "t2t_vit_12" in warning.message


# Ranking


def record(number: str, depth: int, loss: float, source: Source = Source.SAMPLER, width: int = 384) -> Record:
    base = load_spec("t2t_vit_14").model
    assert isinstance(base, ModelSpec)
    backbone = base.backbone.model_dump() | {"depth": depth, "embed_dim": width, "num_heads": width // 64}
    model = with_changes(base, {"backbone": backbone}, "in a test")
    rungs = tuple(Rung(steps, 0.5, loss * 200 / steps, 1.0) for steps in (40, 100, 200))
    cost = predict_cost(model)
    return Record(
        number,
        State.COMPLETED,
        model,
        key=key_of(model),
        source=source,
        rungs=rungs,
        macs=cost.macs,
        params=cost.params,
    )


def records() -> list[Record]:
    """Deeper ones have the better prediction, shallower ones the better training."""
    return [record("0", 14, 1.6), record("1", 10, 1.2), record("2", 7, 0.8), record("3", 12, 1.4)]


def imagenet() -> SearchSpec:
    return deep_narrow("search.target=imagenet")


@pytest.fixture
def valid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2tbuild.nas.ranking.proxy_validity", lambda *_: VALID)


@pytest.fixture
def invalid(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("t2tbuild.nas.ranking.proxy_validity", lambda *_: INVALID)


@pytest.mark.usefixtures("invalid")
def test_invalid_evidence_is_reported_with_weight_zero() -> None:
    given = records()
    ranking = Ranking(imagenet().search, given)
    assert not ranking.uses_training
    for one in given:
        assert one.model is not None
        assert ranking.value(one) == predict_accuracy(one.model).low
        (evidence,) = ranking.evidence(one)
        assert (evidence.kind, evidence.weight) == ("proxy training, 200 steps", 0.0)
        assert evidence.value == pytest.approx(-math.log(one.rungs[-1].loss))
        assert evidence.to_json()["validity"] == {"tau": -0.55, "low": -0.8, "high": -0.2}
    assert sorted(given, key=ranking.value)[-1].number == "0"


@pytest.mark.usefixtures("valid")
def test_valid_evidence_moves_a_prediction_by_its_weight() -> None:
    given = records()
    ranking = Ranking(imagenet().search, given)
    assert ranking.uses_training
    for one, sign in ((given[0], -1), (given[2], 1)):  # the worst and the best trained
        assert one.model is not None
        posterior, prior = ranking.posterior(one), predict_accuracy(one.model)
        assert posterior is not None and prior.top1 is not None
        assert (posterior.top1 - prior.top1) * sign > 0
        (weight,) = posterior.weights
        assert 0 < weight < 1
        assert ranking.evidence(one)[0].weight == weight


@pytest.mark.usefixtures("valid")
def test_too_few_results_are_no_evidence() -> None:
    given = records()[:2]
    ranking = Ranking(imagenet().search, given)
    assert [one.weight for one in ranking.evidence(given[0])] == [0.0]


def test_trainings_rank_on_user_data() -> None:
    given = records()
    ranking = Ranking(deep_narrow("search.target=data").search, given)
    assert ranking.uses_training
    assert [ranking.value(one) for one in given] == pytest.approx([-math.log(one.rungs[-1].loss) for one in given])
    assert [one.weight for one in ranking.evidence(given[0])] == [1.0]
    assert ranking.posterior(given[0]) is None


def test_configurations_are_the_same_after_a_round_trip_through_yaml() -> None:
    """So that the table has the defaults, however a search writes them."""
    import yaml

    proxy = deep_narrow("search.proxy.width=quarter").search.proxy
    default = Proxy(width="quarter")
    for configuration in (training_configuration(proxy, 200), zero_cost_configuration(proxy, "snip")):
        assert yaml.safe_load(yaml.safe_dump(configuration)) == configuration
    assert training_configuration(proxy, 200) == training_configuration(default, 200)
    assert training_configuration(proxy, 200) != training_configuration(proxy, 100)
    more_seeds = proxy.model_copy(update={"seeds": 5, "rungs": (100, 200)})
    assert training_configuration(more_seeds, 200)["steps"] == 200


@pytest.mark.parametrize("name", catalog.names("search"))
def test_the_table_has_the_validity_of_shipped_searches_on_a_cpu(name: str) -> None:
    """It is stored under the same configuration, and no training on digits is valid."""
    proxy = resolve_width(load_search_spec(name).search.proxy, "cpu")
    for steps in proxy.rungs:
        found = proxy_validity(proxy, steps)
        assert found is not None
        assert found.high < 0
        assert not found.is_valid
    for score in load_search_spec(name).search.zero_cost.names:
        found = validity_of(score, zero_cost_configuration(proxy, score))
        assert found is not None
        assert not found.is_valid


@pytest.mark.usefixtures("invalid")
def test_invalid_trainings_have_fewer_reference_runs() -> None:
    planned = plan(imagenet())
    assert len(plan_base_runs(planned.search, planned.base)) == 1
    assert plan_confirmations(planned.search, records(), []) == []
    data = plan(deep_narrow("search.target=data"))
    assert len(plan_base_runs(data.search, data.base)) == data.search.proxy.seeds


# The verdict


@pytest.mark.slow
def test_the_verdict_has_intervals_equals_sources_and_unused_evidence() -> None:
    planned, given = plan(imagenet()), records()
    base = replace(record(BASE, 14, 1.6), source=Source.NAMED)
    better = record("9", 16, 1.7, width=384)
    verdict = decide_by_prediction(
        [*given[1:], better], [base], planned, Ranking(planned.search, [*given[1:], better, base])
    )
    assert verdict is not None and verdict.prediction is not None
    assert verdict.winner.number == "9"
    assert verdict.sentence.startswith("Candidate 9 is predicted to reach an ImageNet top-1 of 8")
    found = verdict.prediction
    assert found.gain is not None and found.gain.low < found.gain.value < found.gain.high
    assert found.base is not None
    alone = math.hypot(found.winner.high - found.winner.low, found.base.high - found.base.low)
    assert found.gain.high - found.gain.low < alone  # what both have in common cancels
    assert 0 < len(found.equals) <= 5 <= found.equal_shapes
    assert shape_of(planned.base).key not in {shape_of(one.model).key for one in found.equals}
    published, proxy = found.reasons
    assert "t2t_vit" in published
    assert "not used in the ranking" in proxy
    assert "candidate 9 1.700, the base 1.600" in proxy


@pytest.mark.slow
def test_untrained_better_members_are_counted_and_not_listed_as_equals() -> None:
    planned, given = plan(imagenet()), [record("1", 5, 1.0)]
    verdict = decide_by_prediction(given, [], planned, Ranking(planned.search, given))
    assert verdict is not None and verdict.prediction is not None
    assert verdict.winner.model is not None
    equals, better = find_equals(verdict.winner.model, planned, given)
    assert better > 10
    assert f"{better} untrained backbones" in verdict.prediction.reasons[0]
    predictor, own = shipped_predictor(), shape_of(verdict.winner.model)
    apart = [predictor.difference(own, shape_of(model), "t2t") for model in equals]
    assert all(one.low <= 0 <= one.high for one in apart)


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer", "at_once")
@pytest.mark.parametrize(
    ("overrides", "pool"),
    [
        ((), 64),
        (("search.sampler=tpe",), 4),
        (("search.sampler=tpe", "search.zero_cost.pool=1"), 1),
        (("search.objectives=[accuracy, macs]",), 1),
    ],
)
def test_the_pool_size_of_predicted_draws(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, overrides: tuple[str, ...], pool: int
) -> None:
    pools = []
    pool_of = worker_module.pool_of

    def watched(*arguments: Any) -> Any:
        found = pool_of(*arguments)
        pools.append(found[0])
        return found

    monkeypatch.setattr(worker_module, "pool_of", watched)
    search(whole("search.zero_cost.names=[]", *overrides), tmp_path / "run")
    assert set(pools) == {pool}


@pytest.mark.slow
def test_the_base_wins_where_no_candidate_is_predicted_to_be_better() -> None:
    """Neither the shallow one, nor that with other heads, which have no term in the predictor."""
    planned, base = plan(imagenet()), replace(record(BASE, 14, 1.6), source=Source.NAMED)
    assert base.model is not None
    backbone = base.model.backbone.model_dump() | {"num_heads": [3, 12] * 7}
    heads = with_changes(base.model, {"backbone": backbone}, "in a test")
    given = [record("1", 7, 0.2), replace(record("2", 14, 0.2), model=heads, key=key_of(heads))]
    ranking = Ranking(planned.search, [*given, base])
    assert ranking.value(given[1]) == ranking.value(base)
    verdict = decide_by_prediction(given, [base], planned, ranking)
    assert verdict is not None
    assert verdict.winner.number == BASE
    assert verdict.sentence.startswith("No candidate is predicted to be better than the base")


# Whole searches


def whole(*overrides: str) -> SearchSpec:
    return deep_narrow(SMALL_SPACE, "search.trials=2", "search.zero_cost.names=[naswot]", *overrides)


@pytest.fixture
def at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """Latencies that take no time to measure."""
    monkeypatch.setattr("t2tbuild.nas.conclude.measure_latencies", lambda models, _device: [0.05] * len(models))


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_a_search_returns_the_best_predicted_whatever_the_proxy_prefers(
    tmp_path: Path, fake_trainer: type[FakeTrainer]
) -> None:
    fake_trainer.quality = staticmethod(shallow_wins)
    winners = []
    for seed in (0, 1, 2):
        result = search(whole(f"search.seed={seed}"), tmp_path / str(seed))
        assert result.verdict.prediction is not None
        assert all(
            one.state is State.COMPLETED for one in result.records
        )  # no candidate is stopped by what does not count
        best = max(result.records, key=lambda one: predict_accuracy(one.model).low or 0)  # type: ignore[arg-type]
        base = predict_accuracy(result.base.model).low  # type: ignore[arg-type]
        assert base is not None
        assert result.winner.number == (best.number if result.ranking.value(best) > base else BASE)
        winners.append(result.best.model.backbone.depth)  # type: ignore[union-attr]
        assert result.winner.model is not None
        assert predict_accuracy(result.winner.model).low >= base  # type: ignore[operator]
    assert len(set(winners)) == 1
    assert winners[0] >= 12


@pytest.mark.slow
def test_report_and_table_contain_all_evidence(tmp_path: Path, fake_trainer: type[FakeTrainer]) -> None:
    fake_trainer.quality = staticmethod(shallow_wins)
    result = search(whole(), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    assert report["target"] == "imagenet"
    trainings = [f"proxy training, {steps} steps" for steps in (40, 100, 200)]
    assert list(report["validity"]) == ["predictor", *trainings, "naswot"]
    assert report["validity"]["predictor"]["counts"]
    assert not any(report["validity"][name]["counts"] for name in (*trainings, "naswot"))
    assert report["prediction"]["equal_shapes"] == len(report["prediction"]["equals"]) > 0
    for candidate in report["candidates"]:
        predicted, (predictor, training, naswot) = candidate["predicted"], candidate["evidence"]
        assert predicted["low"] < predicted["top1"] < predicted["high"]
        assert predicted["nearest"]
        assert (training["kind"], naswot["kind"]) == ("proxy training, 200 steps", "naswot")
        assert (predictor["kind"], predictor["value"]) == ("predictor", predicted["top1"])
        assert [one["weight"] for one in (predictor, training, naswot)] == [1, 0, 0]
    with (tmp_path / "run" / "candidates.csv").open() as file:
        rows = list(csv.DictReader(file))
    for row in rows:
        assert float(row["predicted_low"]) < float(row["predicted_top1"]) < float(row["predicted_high"])
    assert {row["candidate"] for row in rows} == {BASE, *(one.number for one in result.records)}
    assert result.latencies
    assert all(seconds is not None and seconds > 0 for seconds in result.latencies.values())


@pytest.mark.slow
@pytest.mark.usefixtures("at_once")
def test_a_search_that_runs_out_of_time_measures_latencies_too(tmp_path: Path, fake_trainer: type[FakeTrainer]) -> None:
    """Only the first training, the base's, ends."""
    trainings = itertools.count()

    class Endless(fake_trainer):  # type: ignore[valid-type, misc]
        def train(self, check, folder=None):  # type: ignore[no-untyped-def]
            if next(trainings) == 0:
                yield from super().train(check, folder)
                return
            while True:
                check()
                time.sleep(0.05)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("t2tbuild.nas.proxy_evaluator.ProxyTrainer", Endless)
        result = search(whole("search.timeout=3s", "search.trials=200"), tmp_path / "run")
    assert result.outcome == "timeout"
    assert result.latencies
