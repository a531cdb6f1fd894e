"""Our models are the authors' models: names, numerics and costs."""

import numpy as np
import pytest
import torch

from t2tbuild import build_model, load_spec, measure_cost
from t2tbuild.modules.vit import T2TViT
from tests import reference


def released(name: str) -> T2TViT:
    model = build_model(load_spec(name).model)
    weights = reference.weights(reference.SHAPES[name])
    model.load_state_dict(weights | {"pos_embed": model.pos_embed}, strict=True)
    return model.eval()


@pytest.mark.parametrize("name", reference.RELEASED)
def test_state_dict_has_the_released_names_and_shapes(name: str) -> None:
    ours = {key: list(value.shape) for key, value in build_model(load_spec(name).model).state_dict().items()}
    assert ours == reference.SHAPES[name]


@pytest.mark.parametrize("name", reference.RELEASED)
def test_logits_equal_the_released_codes(name: str) -> None:
    with torch.inference_mode():
        ours = released(name)(reference.images()).numpy()
    wanted = reference.logits(name)
    assert np.abs(ours - wanted).max() <= 1e-4 * np.abs(wanted).max()


def test_a_wrong_attention_scale_would_be_seen() -> None:
    """The comparison above has teeth: 5% off in one scale moves the logits far beyond its tolerance."""
    model = released("t2t_vit_t_14")
    attention = model.get_submodule("tokens_to_token.attention1.attn")
    attention.scale = attention.scale * 1.05  # type: ignore[operator, assignment]
    with torch.inference_mode():
        ours = model(reference.images()).numpy()
    wanted = reference.logits("t2t_vit_t_14")
    assert np.abs(ours - wanted).max() > 1e-4 * np.abs(wanted).max()


@pytest.mark.parametrize("name", [*reference.RELEASED, "t2t_vit_14_384"])
def test_costs_are_the_released_codes(name: str) -> None:
    cost, wanted = measure_cost(build_model(load_spec(name).model)), reference.COSTS[name]
    assert cost.params == wanted["params"]
    assert cost.trainable_params == wanted["trainable_params"]
    assert cost.macs == pytest.approx(wanted["macs"], rel=0.005)


def test_every_model_that_was_measured_is_held_against_the_reference() -> None:
    assert set(reference.RELEASED) == set(reference.SHAPES)
    assert {*reference.RELEASED, "t2t_vit_14_384"} == set(reference.COSTS)
