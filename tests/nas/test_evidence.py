"""What evidence may do: rank by its validity, choose candidates for training, and be reported with both."""

import json
from dataclasses import replace
from pathlib import Path

import pytest

from t2tbuild import predict_accuracy, search
from t2tbuild.accuracy.validity import AS_SHIPPED, PREDICTOR, PROXY_TRAINING, Validity, load_rows, validity_of
from t2tbuild.nas.ranking import Ranking
from t2tbuild.nas.record import Source
from tests.nas.test_prediction import SMALL_SPACE, deep_narrow, imagenet, records

INCLUDES_ZERO = Validity(PROXY_TRAINING, {}, models=16, tau=0.3, low=-0.01, high=0.6, pairs_right=7, pairs=7)


@pytest.mark.parametrize(("low", "counts"), [(-0.01, False), (0.0, False), (0.01, True)])
def test_evidence_whose_interval_includes_zero_has_no_weight_in_the_ranking(
    monkeypatch: pytest.MonkeyPatch, low: float, counts: bool
) -> None:
    """With every known pair in order and tau above zero: the interval alone decides."""
    validity = replace(INCLUDES_ZERO, low=low)
    monkeypatch.setattr("t2tbuild.nas.ranking.proxy_validity", lambda *_: validity)
    given = records()
    ranking = Ranking(imagenet().search, given)
    assert ranking.uses_training is counts
    for one in given:
        assert one.model is not None
        (evidence,) = ranking.evidence(one)
        assert (evidence.weight > 0) is counts
        assert (ranking.value(one) == predict_accuracy(one.model).low) is not counts


def test_the_predictor_ranks_whatever_its_own_interval_is() -> None:
    """It is the prior and is not gated, as docs/how_it_works.md states with these figures."""
    shipped, without_source = (
        next(row for row in load_rows() if row["configuration"] == {"fitted_without": what})
        for what in ("the model", "its source")
    )
    assert shipped["near_equal_macs"]["low"] < 0 < shipped["near_equal_macs"]["tau"]
    assert without_source["paper"]["low"] < 0
    assert without_source["paper"]["pairs_right"] < without_source["paper"]["pairs"]  # invalid, were it gated
    validity = validity_of(PREDICTOR, AS_SHIPPED)
    assert validity is not None
    assert (validity.tau, validity.low, validity.high) == tuple(
        shipped["paper"][name] for name in ("tau", "low", "high")
    )
    given = records()
    ranking = Ranking(imagenet().search, given)
    assert [ranking.value(one) for one in given] == [predict_accuracy(one.model).low for one in given if one.model]


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer")
@pytest.mark.parametrize("pool", [4, 1])
def test_the_report_of_own_data_has_the_choice_of_the_predictor(tmp_path: Path, pool: int) -> None:
    spec = deep_narrow(
        SMALL_SPACE.replace("[384, 640]", "[256, 320, 384, 448, 512, 640]"),
        "search.target=data",
        "search.trials=4",
        f"search.zero_cost={{names: [], pool: {pool}}}",
    )
    result = search(spec, tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    sampled = [one for one in report["candidates"] if one["source"] == Source.SAMPLER]
    assert sampled
    for one in report["candidates"]:
        predictor, *others = one["evidence"]
        assert (predictor["kind"], predictor["weight"]) == (PREDICTOR, 0)
        chosen = one in sampled and pool > 1
        assert one["chosen_by"] == (PREDICTOR if chosen else "")
        assert predictor["chose"] is chosen
        assert one["passed_over"] == (pool - 1 if chosen else 0)
        assert not any(other["chose"] for other in others)
    expected = {PREDICTOR if pool > 1 else "sampler": len(sampled)}
    expected["random"] = len(report["candidates"]) - len(sampled)
    assert report["candidates_chosen_by"] == expected
    assert {one.number: one.chosen_by for one in result.records} == {
        one["number"]: one["chosen_by"] for one in report["candidates"]
    }


@pytest.mark.slow
@pytest.mark.usefixtures("fake_trainer")
def test_the_report_of_a_search_for_imagenet_has_the_choice_of_the_predictor(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("t2tbuild.nas.conclude.measure_latencies", lambda models, _device: [0.05] * len(models))
    search(deep_narrow(SMALL_SPACE, "search.trials=2", "search.zero_cost.names=[]"), tmp_path / "run")
    report = json.loads((tmp_path / "run" / "report.json").read_text())
    for one in report["candidates"]:
        assert one["chosen_by"] == (PREDICTOR if one["source"] == Source.SAMPLER else "")
        assert one["evidence"][0]["weight"] == 1
        assert one["evidence"][0]["chose"] is (one["source"] == Source.SAMPLER)
    assert report["candidates_chosen_by"][PREDICTOR] >= 1
