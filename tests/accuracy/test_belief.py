"""Belief and validity: evidence moves a prediction as far as it is valid, and not at all where it is not."""

import math

import pytest

from t2tbuild.accuracy.posterior import Observation, update
from t2tbuild.accuracy.predictor import Z
from t2tbuild.accuracy.validity import Validity, measured, provenance, table, validity_of


def test_without_evidence_the_prediction_stands() -> None:
    found = update(80.0, 1.0, [])
    assert (found.top1, found.weights) == (80.0, ())
    assert (found.low, found.high) == pytest.approx((80 - Z, 80 + Z))


def test_evidence_that_is_not_valid_weighs_nothing() -> None:
    found = update(80.0, 1.0, [Observation(z=5, correlation=0, mean=70, deviation=3)])
    assert (found.top1, found.weights) == (80.0, (0.0,))


def test_the_posterior_by_hand() -> None:
    """Prior 80 of deviation 1; correlation sqrt(1/2) at deviation 1 has precision 1 too: half way to 82 + sqrt(2)."""
    found = update(80.0, 1.0, [Observation(z=1, correlation=math.sqrt(0.5), mean=82, deviation=1)])
    assert found.top1 == pytest.approx(80 + (2 + math.sqrt(2)) / 2)
    assert found.weights == pytest.approx((0.5,))
    assert (found.high - found.low) / 2 == pytest.approx(Z / math.sqrt(2))


def test_more_valid_evidence_weighs_more() -> None:
    weights = [update(80, 1, [Observation(1, correlation, 80, 1)]).weights[0] for correlation in (0.2, 0.5, 0.8, 1.0)]
    assert 0 < weights[0] < weights[1] < weights[2] < weights[3] < 1


@pytest.mark.parametrize(
    ("low", "right", "counts"), [(0.1, 7, True), (0.0, 7, False), (-0.2, 7, False), (0.1, 6, False)]
)
def test_evidence_counts_above_zero_and_with_every_known_pair_right(low: float, right: int, counts: bool) -> None:
    found = Validity("proxy training", {}, models=16, tau=0.5, low=low, high=0.9, pairs_right=right, pairs=7)
    assert found.counts is counts
    assert found.correlation == pytest.approx(math.sin(math.pi / 4) if counts else 0.0)


def test_the_shipped_table_was_measured_and_says_how() -> None:
    assert {"date", "command", "device", "torch", "timm"} <= provenance().keys()
    kinds = {row["kind"] for row in table()}
    assert {"predictor", "proxy training", "naswot", "synflow", "macs", "params", "depth"} <= kinds
    for one in measured():
        assert -1 <= one.low <= one.tau <= one.high <= 1, one
        assert 0 <= one.pairs_right <= one.pairs == 7


def test_the_predictor_counts_and_the_cost_of_a_model_does_not() -> None:
    how = {one.configuration["fitted_without"]: one for one in measured() if one.kind == "predictor"}
    assert how["the model"].counts  # as it ships, the paper's models are among those that it is fitted to
    assert how["its source"].tau > 0.3  # and without any of the paper's, its interval reaches zero: docs/search.md
    assert [one.counts for one in measured() if one.kind in ("macs", "params")] == [False, False]


def test_what_was_not_measured_has_no_validity() -> None:
    assert validity_of("proxy training", {"steps": 12345}) is None
