"""predict_accuracy: near published models only, known pairs in order, as accurate as docs/accuracy.md states."""

import json
import math
import subprocess
import sys

import numpy as np
import pytest
from scipy import stats

from t2tbuild import load_spec, predict_accuracy
from t2tbuild.accuracy.features import PRIOR_STD, REFERENCE, features_of, shape_of
from t2tbuild.accuracy.fit import as_json, fit_predictor, imagenet_models
from t2tbuild.accuracy.pairs import KNOWN_PAIRS, KnownPair
from t2tbuild.accuracy.predictor import FILE, Z_90, Accuracy, Predictor, shipped_predictor
from t2tbuild.accuracy.published import PublishedModel, reserved_sources
from t2tbuild.errors import InputError
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.with_changes import with_changes


def shipped(name: str) -> ModelSpec:
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    return model


def shaped(**backbone: object) -> ModelSpec:
    """T2T-ViT-14 with another backbone."""
    base = shipped("t2t_vit_14")
    return with_changes(base, {"backbone": base.backbone.model_dump() | backbone}, "in a test")


# Features, by hand


def test_the_reference_has_tokenizer_features_only() -> None:
    assert shape_of(shipped("t2t_vit_14")) == REFERENCE
    assert {name: value for name, value in features_of(REFERENCE).items() if value} == {
        "overlap": 1,
        "t2t": 1,
        "performer": 1,
    }


def test_features_are_logarithms_relative_to_the_reference() -> None:
    found = features_of(shape_of(shaped(depth=7, embed_dim=768, num_heads=12)))
    assert found["size"] == pytest.approx(math.log(2))  # half the depth, four times the matrices
    assert found["aspect"] == pytest.approx(math.log(4))
    assert found["size aspect"] == pytest.approx(math.log(2) * math.log(4))
    assert found["shallow"] == pytest.approx(math.log(9 / 7))
    assert found.keys() | {"teacher"} == PRIOR_STD.keys()


# Predictions


def test_a_published_model_is_predicted_near_its_own_figure() -> None:
    found = predict_accuracy(shipped("t2t_vit_14"))
    assert found.top1 == pytest.approx(81.5, abs=0.5)
    assert found.low is not None and found.high is not None
    assert found.low < 81.5 < found.high
    assert found.nearest[0].name == "t2t_vit_14"
    assert (found.nearest[0].top1, found.nearest[0].source) == (81.5, "t2t")


def test_deep_and_narrow_beats_shallow_and_wide_at_equal_macs() -> None:
    """The paper's model against one that an earlier default search returned."""
    narrow, wide = predict_accuracy(shaped(depth=14)), predict_accuracy(shaped(depth=4, embed_dim=640, num_heads=10))
    assert narrow.low is not None and wide.high is not None
    assert narrow.low > wide.high


def test_other_recipes_give_other_accuracies() -> None:
    deit = shipped("vit_s16")
    assert predict_accuracy(deit, "deit3_in1k").top1 != predict_accuracy(deit, "t2t").top1


def test_an_unknown_recipe_is_a_user_error_that_lists_the_known_ones() -> None:
    with pytest.raises(InputError, match="t2t") as caught:
        predict_accuracy(shipped("t2t_vit_14"), "t3t")
    assert "t3t" in str(caught.value)


@pytest.mark.parametrize(
    ("changes", "reason"),
    [
        ({"depth": 200}, "200 blocks"),
        ({"depth": 1}, "1 blocks"),
        ({"embed_dim": 6000, "num_heads": 60}, "width 6000"),
        ({"mlp_ratio": 16}, "MLP ratio 16"),
    ],
)
def test_nothing_is_predicted_far_from_published_models(changes: dict[str, object], reason: str) -> None:
    found = predict_accuracy(shaped(**changes))
    assert (found.top1, found.low, found.high) == (None, None, None)
    assert reason in found.reason
    assert str(found).startswith("not predicted: ")


def test_nothing_is_predicted_for_small_images_and_timm_models() -> None:
    small = predict_accuracy(shipped("t2t_vit_14").model_copy(update={"image_size": 32}))
    assert small.top1 is None
    assert "pixels" in small.reason
    other = load_spec("resnet50").model
    assert predict_accuracy(other).top1 is None
    assert predict_accuracy(other).reason


def test_a_model_between_published_ones_has_a_wider_interval() -> None:
    def width(found: Accuracy) -> float:
        assert found.low is not None and found.high is not None
        return found.high - found.low

    assert width(predict_accuracy(shaped(depth=17, embed_dim=320, num_heads=5))) > width(
        predict_accuracy(shipped("t2t_vit_14"))
    )


def test_a_difference_has_a_narrower_interval_than_two_accuracies() -> None:
    """Errors that both models share cancel."""
    predictor, one, other = shipped_predictor(), shape_of(shaped(depth=14)), shape_of(shaped(depth=15))
    found = predictor.difference(one, other, "t2t")
    apart = predictor.estimate(one, "t2t"), predictor.estimate(other, "t2t")
    alone = Z_90 * math.hypot(*(estimate.deviation * math.exp(estimate.mean) for estimate in apart))
    assert (found.high - found.low) / 2 < alone
    assert predictor.difference(one, one, "t2t").value == 0


def test_unknown_offsets_of_both_models_cancel() -> None:
    """The same unpublished stage list or recipe does not widen the interval of a difference."""
    predictor, pair = shipped_predictor(), [shape_of(shaped(depth=depth)) for depth in (14, 15)]
    published = predictor.difference(*pair, "t2t")
    other = predictor.difference(
        *(one._replace(tokenizer="t2t 7-3-48 performer 3-1-48 performer 3-1") for one in pair), "t2t"
    )
    assert (other.low, other.high) == pytest.approx((published.low, published.high))
    mixed = predictor.difference(
        pair[0], pair[1]._replace(tokenizer="t2t 7-3-48 performer 3-1-48 performer 3-1"), "t2t"
    )
    assert mixed.high - mixed.low > published.high - published.low


def test_predicting_needs_neither_torch_nor_scikit_learn() -> None:
    code = (
        "import sys, t2tbuild as t; t.predict_accuracy(t.load_spec('t2t_vit_14').model);"
        "print([name for name in ('torch', 'timm', 'numpy', 'scipy', 'sklearn') if name in sys.modules])"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "[]"


# The fit


@pytest.fixture(scope="module")
def models() -> list[PublishedModel]:
    """The published models without the reserved sources."""
    reserved = reserved_sources()
    return [one for one in imagenet_models() if one.source not in reserved]


def test_the_shipped_predictor_is_fitted_to_the_shipped_results() -> None:
    """Run `python -m t2tbuild.accuracy.fit` after a change of published.yaml, or of a feature or prior."""
    shipped_one = json.loads(FILE.read_text())
    refitted = json.loads(as_json(fit_predictor(imagenet_models())))
    assert shipped_one.pop("fitted") and refitted.pop("fitted")
    for name in ("weights", "covariance"):
        flat = [np.concatenate([np.atleast_1d(row) for row in one.pop(name)]) for one in (shipped_one, refitted)]
        np.testing.assert_allclose(*flat, rtol=1e-3, atol=1e-7)
    for name in ("intercept", "noise", "unknown_recipe", "unknown_slope", "unknown_shape"):
        assert shipped_one.pop(name) == pytest.approx(refitted.pop(name), rel=1e-3), name
    assert shipped_one == refitted


def test_json_and_back_predicts_the_same(models: list[PublishedModel]) -> None:
    predictor = fit_predictor(models)
    again = Predictor.from_json(json.loads(as_json(predictor)))
    for name in ("t2t_vit_14", "vit_s16", "t2t_vit_14_wide"):
        one, other = (found.estimate(shape_of(shipped(name)), "t2t") for found in (predictor, again))
        assert one.mean == pytest.approx(other.mean, abs=1e-4)
        assert one.deviation == pytest.approx(other.deviation, rel=1e-2)


@pytest.mark.slow
def test_leaving_a_row_out_of_the_papers_and_deits(models: list[PublishedModel]) -> None:
    """The figures of docs/accuracy.md: tau 0.8 or more, a mean error of 1.2 points or less, intervals that hold."""
    left_out = [one for one in models if _is_paper_or_deit(one)]
    published, predicted, held = [], [], []
    for one in left_out:
        predictor = fit_predictor([other for other in models if other is not one], min_models=1)
        estimate = predictor.estimate(shape_of(one.model), one.recipe.name)
        published.append(one.top1)
        predicted.append(100 - math.exp(estimate.mean))
        held.append(abs(math.log(100 - one.top1) - estimate.mean) <= Z_90 * estimate.deviation)
    assert len(left_out) >= 30
    assert stats.kendalltau(published, predicted).statistic >= 0.8
    assert np.mean(np.abs(np.subtract(published, predicted))) <= 1.2
    assert 0.8 <= np.mean(held) <= 0.97


def _is_paper_or_deit(one: PublishedModel) -> bool:
    return one.source == "t2t" or (one.source == "deit" and one.recipe.name in ("deit_300", "deit_300_disttoken"))


@pytest.mark.parametrize("pair", KNOWN_PAIRS, ids=lambda pair: pair.name)
def test_known_pairs_are_ordered_when_left_out_of_the_fit(models: list[PublishedModel], pair: KnownPair) -> None:
    known = {(one.source, one.name): one for one in models}
    better, worse = known[pair.better], known[pair.worse]
    assert better.top1 > worse.top1
    predictor = fit_predictor([one for one in models if one not in (better, worse)], min_models=1)
    assert predictor.difference(shape_of(better.model), shape_of(worse.model), pair.recipe).value > 0
