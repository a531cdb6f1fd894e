"""The parameters that are trained and decayed, their learning rates, and the schedule by its formula."""

import math

import pytest
import torch
from torch import nn

from t2tbuild import ModelSpec, build_model
from t2tbuild.errors import FieldError
from t2tbuild.spec.model import TimmModel
from t2tbuild.spec.optimizer import AdamW, LrScale, Sgd
from t2tbuild.spec.train import TrainSpec
from t2tbuild.training.optim import freeze, make_optimizer, make_scheduler, part_of

HEADS = ("head.",)


def groups_of(model: nn.Module, optimizer: torch.optim.Optimizer) -> dict[str, dict[str, object]]:
    """The group of each parameter by its name."""
    names = {parameter: name for name, parameter in model.named_parameters()}
    return {names[parameter]: group for group in optimizer.param_groups for parameter in group["params"]}


@pytest.mark.parametrize("lr_scale", [None, LrScale(tokenizer=0.01, backbone=0.1, head=1)])
@pytest.mark.parametrize("layer_decay", [None, 0.75])
def test_all_trainable_parameters_are_optimised(
    small: ModelSpec, lr_scale: LrScale | None, layer_decay: float | None
) -> None:
    """The released transfer script leaves the class token and the last norm out."""
    model = build_model(small)
    optimizer = make_optimizer(model, lr=1e-3, weight_decay=0.1, lr_scale=lr_scale, layer_decay=layer_decay)
    wanted = {name for name, parameter in model.named_parameters() if parameter.requires_grad}
    assert set(groups_of(model, optimizer)) == wanted
    assert {"cls_token", "norm.weight", "norm.bias", "head.bias"} <= wanted


def test_only_matrices_have_weight_decay(small: ModelSpec) -> None:
    model = build_model(small)
    for scale in (None, LrScale()):
        groups = groups_of(model, make_optimizer(model, lr=1e-3, weight_decay=0.1, lr_scale=scale))
        decayed = {name for name, group in groups.items() if group["weight_decay"] == 0.1}
        matrices = {name for name, one in model.named_parameters() if one.ndim == 2 and one.requires_grad}
        assert decayed == matrices


def test_each_part_has_its_learning_rate(small: ModelSpec) -> None:
    model = build_model(small)
    scale = LrScale(tokenizer=0.01, backbone=0.1, head=10)
    optimizer = make_optimizer(model, lr=1.0, weight_decay=0.1, kind=Sgd(), lr_scale=scale)
    recipe = TrainSpec(epochs=10, warmup_epochs=2, lr=1.0, min_lr=0.5)
    scheduler = make_scheduler(optimizer, recipe, steps_in_epoch=10)
    for step, base in ((0, 0.5), (20, None), (100, 0.5)):
        scheduler.step_update(step)
        rates = {part_of(name, HEADS): group["lr"] for name, group in groups_of(model, optimizer).items()}
        expected = base if base is not None else 0.5 + 0.25 * (1 + math.cos(math.pi * 20 / 100))
        assert rates == pytest.approx({"tokenizer": 0.01 * expected, "backbone": 0.1 * expected, "head": 10 * expected})


def test_learning_rates_of_layers_decay_towards_the_tokenizer(small: ModelSpec) -> None:
    model = build_model(small)
    groups = groups_of(model, make_optimizer(model, lr=1.0, weight_decay=0.1, layer_decay=0.5))
    scales = [groups[name]["lr_scale"] for name in ("head.weight", "blocks.1.norm1.weight", "blocks.0.norm1.weight")]
    assert scales[0] == 1.0
    assert scales[1] == pytest.approx(2 * scales[2])  # type: ignore[operator]
    assert groups["tokens_to_token.project.weight"]["lr_scale"] == pytest.approx(scales[2] / 2)  # type: ignore[operator]


def test_the_schedule_is_that_of_the_paper() -> None:
    """310 epochs: 10 of warm-up from 1e-6, a cosine over 300 down to 1e-5, and 10 at that rate."""
    parameter = nn.Parameter(torch.zeros(1))
    optimizer = torch.optim.SGD([parameter], lr=5e-4)
    recipe = TrainSpec(epochs=300, cooldown_epochs=10, warmup_epochs=10, warmup_lr=1e-6, lr=5e-4, min_lr=1e-5)
    scheduler = make_scheduler(optimizer, recipe, steps_in_epoch=100)

    def lr(epoch: float) -> float:
        scheduler.step_update(round(epoch * 100))
        return float(optimizer.param_groups[0]["lr"])

    def cosine(epoch: float) -> float:
        return 1e-5 + 0.5 * (5e-4 - 1e-5) * (1 + math.cos(math.pi * epoch / 300))

    assert lr(0) == pytest.approx(1e-6)
    assert lr(5) == pytest.approx(1e-6 + (5e-4 - 1e-6) / 2)
    assert lr(10) == pytest.approx(cosine(10))
    assert lr(150) == pytest.approx(cosine(150))
    assert lr(305) == pytest.approx(1e-5)
    assert recipe.all_epochs == 310


def test_the_optimisers_have_the_settings_of_the_spec(small: ModelSpec) -> None:
    model = build_model(small)
    sgd = make_optimizer(model, lr=0.1, weight_decay=0.0, kind=Sgd(momentum=0.8, nesterov=True))
    assert isinstance(sgd, torch.optim.SGD)
    assert (sgd.defaults["momentum"], sgd.defaults["nesterov"]) == (0.8, True)
    assert not make_optimizer(model, lr=0.1, weight_decay=0.0, kind=Sgd()).defaults["nesterov"]
    adamw = make_optimizer(model, lr=0.1, weight_decay=0.0, kind=AdamW(betas=(0.8, 0.9), eps=1e-6))
    assert isinstance(adamw, torch.optim.AdamW)
    assert (adamw.defaults["betas"], adamw.defaults["eps"]) == ((0.8, 0.9), 1e-6)


def test_frozen_parts_require_no_gradient(small: ModelSpec) -> None:
    model = build_model(small)
    freeze(model, ("tokenizer", "backbone"))
    assert {name for name, one in model.named_parameters() if one.requires_grad} == {"head.weight", "head.bias"}


def test_freezing_a_missing_part_raises() -> None:
    model = build_model(TimmModel(name="resnet18", num_classes=10, image_size=64))
    with pytest.raises(FieldError, match=r"freeze\.0: the model has no tokenizer"):
        freeze(model, ("tokenizer",))
    freeze(model, ("backbone",))
    assert {name for name, one in model.named_parameters() if one.requires_grad} == {"fc.weight", "fc.bias"}


def test_parts_follow_the_parameter_names_of_the_released_code() -> None:
    parts = {
        "tokens_to_token.attention1.w": "tokenizer",
        "pos_embed": "backbone",
        "cls_token": "backbone",
        "blocks.3.attn.qkv.weight": "backbone",
        "norm.bias": "backbone",
        "head.weight": "head",
    }
    assert {name: part_of(name, HEADS) for name in parts} == parts


def test_a_training_of_one_step_warns_of_nothing_and_ends_at_min_lr(caplog: pytest.LogCaptureFixture) -> None:
    optimizer = make_optimizer(nn.Linear(2, 2), lr=0.1, weight_decay=0)
    scheduler = make_scheduler(optimizer, TrainSpec(epochs=1, warmup_epochs=0), steps_in_epoch=1)
    rates = []
    for step in range(2):
        scheduler.step_update(step)
        rates.append(optimizer.param_groups[0]["lr"])
    assert caplog.records == []
    assert rates == [0.1, TrainSpec().min_lr]
