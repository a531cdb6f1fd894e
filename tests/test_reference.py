"""Our models equal the authors' released ones: parameter names, logits and costs."""

import numpy as np
import pytest
import torch

from t2tbuild import build_model, load_spec, predict_cost
from t2tbuild.modules.vit import T2TViT
from tests import reference

SMALL = ("t2t_vit_7", "t2t_vit_10")
EACH = [pytest.param(name, marks=() if name in SMALL else pytest.mark.slow) for name in reference.RELEASED]


def released(name: str) -> T2TViT:
    model = build_model(load_spec(name).model)
    weights = reference.weights(reference.SHAPES[name])
    assert list(model.pos_embed.shape) == reference.SHAPES[name]["pos_embed"]
    model.load_state_dict(weights | {"pos_embed": model.pos_embed}, strict=True)  # the same names and shapes
    return model.eval()


@pytest.mark.parametrize("name", EACH)
def test_logits_equal_those_of_the_released_code(name: str) -> None:
    """The parameters have the released names and shapes too."""
    with torch.inference_mode():
        ours = released(name)(reference.images()).numpy()
    expected = reference.logits(name)
    assert np.abs(ours - expected).max() <= 1e-4 * np.abs(expected).max()


def test_the_tolerance_detects_a_wrong_attention_scale() -> None:
    """An attention scale that is 5% off moves the logits far beyond the tolerance above."""
    model = released("t2t_vit_t_14")
    attention = model.get_submodule("tokens_to_token.attention1.attn")
    attention.scale = attention.scale * 1.05  # type: ignore[operator, assignment]
    with torch.inference_mode():
        ours = model(reference.images()).numpy()
    expected = reference.logits("t2t_vit_t_14")
    assert np.abs(ours - expected).max() > 1e-4 * np.abs(expected).max()


@pytest.mark.parametrize("name", [*EACH, pytest.param("t2t_vit_14_384", marks=pytest.mark.slow)])
def test_costs_equal_those_of_the_released_code(name: str) -> None:
    """By the closed form, which tests/cost compares with fvcore."""
    cost, expected = predict_cost(load_spec(name).model), reference.COSTS[name]
    assert cost.params == expected["params"]
    assert cost.trainable_params == expected["trainable_params"]
    assert cost.macs == pytest.approx(expected["macs"], rel=0.005)


def test_every_measured_model_is_compared() -> None:
    assert set(reference.RELEASED) == set(reference.SHAPES)
    assert {*reference.RELEASED, "t2t_vit_14_384"} == set(reference.COSTS)
