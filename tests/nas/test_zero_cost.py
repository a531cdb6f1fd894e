"""Zero-cost proxies by hand on small networks, and on our models without side effects."""

import math

import pytest
import torch
from torch import nn

from t2tbuild import build_model
from t2tbuild.modules.performer import TokenPerformer
from t2tbuild.nas.draw import Draw
from t2tbuild.nas.layer_groups import attention_layers, mlp_layers, preactivations
from t2tbuild.nas.members import Member
from t2tbuild.nas.proxy_evaluator import ProxyEvaluator
from t2tbuild.nas.record import Source
from t2tbuild.nas.zero_cost import dss, grad_norm, naswot, snip, synflow, weight_norm, zero_cost_proxies
from t2tbuild.spec import ModelSpec
from t2tbuild.spec.search import Search, ZeroCostProxies

NAMES = ("params", "macs", "depth", "naswot", "weight_norm", "snip", "grad_norm", "synflow", "dss")


def batch(model: ModelSpec, images: int = 8) -> tuple[torch.Tensor, torch.Tensor]:
    torch.manual_seed(0)
    return torch.randn(images, 3, *model.image), torch.arange(images) % model.num_classes


def test_by_hand() -> None:
    w = nn.Parameter(torch.tensor([[3.0, -4.0]]))
    gradients = {w: torch.tensor([[1.0, 2.0]])}
    assert snip(gradients) == 3 + 8
    assert grad_norm(gradients) == pytest.approx(math.sqrt(5))
    assert synflow(gradients) == pytest.approx(math.log(11))


def test_weight_norm_leaves_out_frozen_weights(small: ModelSpec) -> None:
    """A Performer's random features and the position table are frozen."""
    model = build_model(small)
    before = weight_norm(model)
    with torch.no_grad():
        next(module for module in model.modules() if isinstance(module, TokenPerformer)).w.mul_(100)
        model.pos_embed.mul_(100)
        assert weight_norm(model) == before
        model.head.weight.mul_(2)
        assert weight_norm(model) > before


def test_naswot_distinguishes_images(small: ModelSpec) -> None:
    """Equal images give equal kernel rows with determinant zero; different ones give a larger one."""
    model, (images, _) = build_model(small).eval(), batch(small)
    same = images[:1].repeat(8, 1, 1, 1)
    assert naswot(model, same) < naswot(model, images)
    assert math.isfinite(naswot(model, images))


def test_all_ones_images_carry_no_signal(small: ModelSpec) -> None:
    """The first LayerNorm maps all-ones images to its bias, so the proxies need real images."""
    model = build_model(small).eval()
    ones = torch.ones(4, 3, *small.image)
    assert naswot(model, ones) == -math.inf or naswot(model, ones) < naswot(model, torch.randn(4, 3, *small.image))


def test_layer_groups(small: ModelSpec) -> None:
    """Two stages, one of each attention, and two blocks: a square MLP is not an attention layer."""
    model = build_model(small)
    attention, mlp = attention_layers(model), mlp_layers(model)
    assert len(attention) == 2 * (2 + small.backbone.depth)
    assert len(mlp) == 2 * (2 + small.backbone.depth)
    assert not set(attention) & set(mlp)
    assert len(preactivations(model)) == 2 + small.backbone.depth
    named = dict(model.named_modules())
    assert named["tokens_to_token.attention1.mlp.0"] in mlp


def test_layer_groups_of_ghost_layers(small: ModelSpec) -> None:
    ghost = small.model_copy(
        update={"backbone": type(small.backbone).model_validate(small.backbone.model_dump() | {"ghost": {}})}
    )
    model = build_model(ghost)
    assert len(attention_layers(model)) == 2 * 2 + 4 * ghost.backbone.depth
    assert math.isfinite(dss_of(model, ghost))


def dss_of(model: nn.Module, spec: ModelSpec) -> float:
    model.zero_grad()
    model(batch(spec)[0]).sum().backward()
    return dss(model)


def test_the_model_is_unchanged(small: ModelSpec) -> None:
    model = build_model(small).train()
    before = {key: value.clone() for key, value in model.state_dict().items()}
    scores = zero_cost_proxies(NAMES, small, model, *batch(small))
    assert list(scores) == list(NAMES)
    assert all(math.isfinite(value) for value in scores.values())
    assert scores["depth"] == small.backbone.depth
    assert all(torch.equal(value, before[key]) for key, value in model.state_dict().items())
    assert all(parameter.grad is None for parameter in model.parameters())
    assert model.training
    assert zero_cost_proxies(NAMES, small, model, *batch(small)) == scores


def test_larger_models_score_higher(small: ModelSpec) -> None:
    deeper = small.model_copy(update={"backbone": small.backbone.model_copy(update={"depth": 6})})
    torch.manual_seed(0)
    low = zero_cost_proxies(NAMES, small, build_model(small), *batch(small))
    torch.manual_seed(0)
    high = zero_cost_proxies(NAMES, deeper, build_model(deeper), *batch(deeper))
    assert all(high[name] > low[name] for name in ("params", "macs", "weight_norm", "synflow", "dss"))


def test_a_zero_cost_proxy_chooses_a_draw(small: ModelSpec) -> None:
    """The draw with the largest value of the named proxy; a draw without that value loses."""
    search = Search.model_validate(
        {"base": "t2t_vit_14", "budget": {"macs": "5G"}, "space": {"backbone.mlp_ratio": {"choices": [2]}}}
    )
    search = search.model_copy(update={"zero_cost": ZeroCostProxies(names=("params", "macs", "depth"))})
    evaluator = ProxyEvaluator(search, None, torch.device("cpu"))  # type: ignore[arg-type]
    draws = [Draw(Member(small, str(index), {}), Source.SAMPLER) for index in range(3)]
    evaluator._scores = {
        "0": {"params": 1, "macs": 9, "depth": 1},
        "1": {"params": 3, "macs": 8, "depth": 3},
        "2": {"params": 2, "macs": 7, "depth": 2},
        "3": {"macs": 10},
    }
    assert evaluator.choose_draw(draws, "params") is draws[1]
    assert evaluator.choose_draw(draws, "macs") is draws[0]
    unscored = Draw(Member(small, "3", {}), Source.SAMPLER)  # only one of its proxies was finite
    assert evaluator.choose_draw([unscored, *draws], "params") is draws[1]
    assert evaluator.choose_draw([unscored, *draws], "macs") is unscored
