"""Posterior and validity: evidence changes a prediction in proportion to its validity."""

import math

import pytest

from t2tbuild.accuracy.posterior import Observation, update_posterior
from t2tbuild.accuracy.predictor import Z_90
from t2tbuild.accuracy.validity import Validity, load_provenance, load_rows, load_validities, validity_of


def test_without_evidence_the_posterior_is_the_prediction() -> None:
    found = update_posterior(80.0, 1.0, [])
    assert (found.top1, found.weights) == (80.0, ())
    assert (found.low, found.high) == pytest.approx((80 - Z_90, 80 + Z_90))


def test_invalid_evidence_has_weight_zero() -> None:
    found = update_posterior(80.0, 1.0, [Observation(z=5, correlation=0, mean=70, deviation=3)])
    assert (found.top1, found.weights) == (80.0, (0.0,))


def test_the_posterior_by_hand() -> None:
    """Prior 80 of deviation 1; correlation sqrt(1/2) at deviation 1 has precision 1 too: half way to 82 + sqrt(2)."""
    found = update_posterior(80.0, 1.0, [Observation(z=1, correlation=math.sqrt(0.5), mean=82, deviation=1)])
    assert found.top1 == pytest.approx(80 + (2 + math.sqrt(2)) / 2)
    assert found.weights == pytest.approx((0.5,))
    assert (found.high - found.low) / 2 == pytest.approx(Z_90 / math.sqrt(2))


def test_more_valid_evidence_weighs_more() -> None:
    weights = [
        update_posterior(80, 1, [Observation(1, correlation, 80, 1)]).weights[0] for correlation in (0.2, 0.5, 0.8, 1.0)
    ]
    assert 0 < weights[0] < weights[1] < weights[2] < weights[3] < 1


@pytest.mark.parametrize(
    ("low", "right", "is_valid"), [(0.1, 7, True), (0.0, 7, False), (-0.2, 7, False), (0.1, 6, False)]
)
def test_evidence_is_valid_above_zero_with_every_known_pair_right(low: float, right: int, is_valid: bool) -> None:
    found = Validity("proxy training", {}, models=16, tau=0.5, low=low, high=0.9, pairs_right=right, pairs=7)
    assert found.is_valid is is_valid
    assert found.correlation == pytest.approx(math.sin(math.pi / 4) if is_valid else 0.0)


def test_the_shipped_table_has_its_provenance() -> None:
    assert {"date", "command", "device", "torch", "timm"} <= load_provenance().keys()
    kinds = {row["kind"] for row in load_rows()}
    assert {"predictor", "proxy training", "naswot", "synflow", "macs", "params", "depth"} <= kinds
    assert all(row["other_sources"]["models"] >= 120 for row in load_rows())
    for one in load_validities():
        assert -1 <= one.low <= one.tau <= one.high <= 1, one
        assert 0 <= one.pairs_right <= one.pairs == 7


def test_the_predictor_is_valid_and_the_cost_of_a_model_is_not() -> None:
    how = {one.configuration["fitted_without"]: one for one in load_validities() if one.kind == "predictor"}
    assert how["the model"].is_valid  # the shipped predictor is fitted to the paper's models too
    assert how["its source"].tau > 0.3  # and without any of the paper's, its interval reaches zero: docs/searching.md
    assert [one.is_valid for one in load_validities() if one.kind in ("macs", "params")] == [False, False]


def test_what_was_not_measured_has_no_validity() -> None:
    assert validity_of("proxy training", {"steps": 12345}) is None
