"""Fast paths against the published formulas: the same logits and gradients, and nothing large is stored."""

import gc
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from reference_modules import reference_module
from shipped import OURS, shallow
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.checkpoint import checkpoint

from t2tbuild import build_model, load_spec
from t2tbuild.bench.peak_memory import allocations
from t2tbuild.modules import recompute, recompute_policy
from t2tbuild.modules.soft_split import SoftSplit

pytestmark = pytest.mark.usefixtures("all_remade")


@pytest.fixture
def all_remade(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a tensor is, training makes it anew."""
    monkeypatch.setattr(recompute_policy, "REMADE_FROM", 0)


def learned(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Logits, and the gradients of their cross-entropy."""
    logits = model(images)
    F.cross_entropy(logits, torch.arange(len(images)) % 10).backward()
    return logits.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("name", OURS)
def test_logits_and_gradients_are_those_of_the_formulas(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(shallow(name)).eval()
    images = torch.randn(3, 3, 64, 64)
    images[1, :, 10:40, 10:40] = 2.6  # a flat area, where every patch has no variance
    logits, gradients = learned(model, images)
    wanted_logits, wanted = learned(reference_module(model), images)
    torch.testing.assert_close(logits, wanted_logits, rtol=0, atol=1e-4)
    assert gradients.keys() == wanted.keys()
    for parameter, gradient in gradients.items():
        error = (gradient - wanted[parameter]).abs().max() / wanted[parameter].abs().max().clamp_min(1e-8)
        assert error < 1e-3, parameter


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("frozen", [(), ("x",), ("linear",), ("norm",)])
def test_a_projected_soft_split_is_its_three_steps(normed: bool, frozen: tuple[str, ...]) -> None:
    """Values and gradients, whatever is frozen; and in inference, where images go one at a time."""
    torch.manual_seed(1)
    split, linear = SoftSplit(patch_size=3, stride=2, padding=1), nn.Linear(5 * 9, 7)
    norm = nn.LayerNorm(5 * 9) if normed else None
    linear.requires_grad_("linear" not in frozen)
    if norm is not None:
        norm.requires_grad_("norm" not in frozen)
    x = torch.linspace(-1, 3, 4 * 5 * 11 * 8).sin().reshape(4, 5, 11, 8).requires_grad_("x" not in frozen)
    wanted = linear(split(x) if norm is None else norm(split(x)))
    found = split.project(x, linear, norm)
    with torch.no_grad():
        torch.testing.assert_close(split.project(x, linear, norm), wanted, rtol=1e-5, atol=1e-5)
    modules = [linear, *([] if norm is None else [norm])]
    learned = [one for one in (x, *(p for module in modules for p in module.parameters())) if one.requires_grad]
    of_found, of_wanted = (torch.autograd.grad((y * torch.arange(7)).square().sum(), learned) for y in (found, wanted))
    torch.testing.assert_close((found, *of_found), (wanted, *of_wanted), rtol=1e-5, atol=1e-4)


def test_a_transposed_view_of_what_is_made_anew_is_kept() -> None:
    x, weight = torch.arange(6.0).reshape(2, 3), torch.ones(3, 2, requires_grad=True)
    y = x * 2
    with recompute.recomputed(y, lambda: x * 2, of=x):
        (y.T * weight).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, y.T)


def test_second_derivatives_are_those_of_the_formulas() -> None:
    """What is computed again on the way back can itself be differentiated."""
    torch.manual_seed(2)
    model = build_model(shallow("t2t_vit_7")).eval()
    images = torch.randn(2, 3, 64, 64)
    found = []
    for one in (model, reference_module(model)):
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no second derivative
            first = torch.autograd.grad(one(images).square().sum(), one.blocks[0].mlp.fc1.weight, create_graph=True)[0]
        found.append(torch.autograd.grad(first.square().sum(), one.blocks[0].norm1.weight)[0])
    assert (found[0] - found[1]).abs().max() < 1e-3 * found[1].abs().max()


@pytest.mark.parametrize("name", ["t2t_vit_7", "t2t_vit_t_14", "t2t_vit_16_ghost", "t2t_vit_dense"])
def test_gradient_checkpointing_still_keeps_next_to_nothing(name: str) -> None:
    """Bytes alive after a forward pass, and the same gradients to the bit."""
    model = build_model(load_spec(name, ["model.image_size=64", "model.num_classes=10"]).model)
    images, kept, gradients = torch.randn(2, 3, 64, 64), [], []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.train()
        torch.manual_seed(3)
        logits: list[Tensor] = []
        kept.append(sum(allocations(lambda out=logits: out.append(model(images)))))
        logits[0].square().sum().backward()
        gradients.append([one.grad for one in model.parameters() if one.grad is not None])
        model.zero_grad()
    assert kept[1] < 0.3 * kept[0]
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


class Largest(TorchDispatchMode):
    """The numbers of the largest tensor that any operation gives."""

    numbers = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        sizes = [one.numel() for one in tree_flatten(out)[0] if isinstance(one, Tensor)]
        self.numbers = max(self.numbers, *sizes, 0)
        return out


@pytest.mark.parametrize("name", ["t2t_vit_t_14", "t2t_vit_14"])
def test_no_matrix_of_tokens_by_tokens_is_stored(name: str) -> None:
    """Neither forward nor backward: the first stage of a 224 pixel image has 3,136 tokens, their square is 9.8M."""
    model = build_model(load_spec(name, ["model.backbone.depth=1"]).model)
    with Largest() as largest:
        model(torch.randn(1, 3, 224, 224)).sum().backward()
    assert 3136 * 64 <= largest.numbers < 3136**2


def test_large_tensors_are_made_anew_and_small_ones_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Bytes alive after a forward pass of eight images, with the bound as shipped and without one."""
    monkeypatch.undo()
    model = build_model(load_spec("t2t_vit_t_14", ["model.backbone.depth=1"]).model).train()
    kept = {}
    for bound in (0, recompute_policy.RECOMPUTE_THRESHOLD, 1 << 40):
        monkeypatch.setattr(recompute_policy, "REMADE_FROM", bound)
        images, logits = torch.randn(8, 3, 224, 224), []
        kept[bound] = sum(allocations(lambda images=images, out=logits: out.append(model(images))))
    none, shipped, all_kept = kept.values()
    assert none < shipped < 0.75 * all_kept


@pytest.mark.parametrize("retain", [None, False, True])
def test_nothing_is_left_of_a_step(retain: bool | None) -> None:
    """Bytes that are alive after a forward pass, with no backward pass, with one, and with one that keeps its graph."""
    model, images = build_model(shallow("t2t_vit_14_se")).train(), torch.randn(2, 3, 64, 64)

    def step() -> None:
        logits = model(images)
        if retain is not None:
            logits.sum().backward(retain_graph=retain)
            model.zero_grad()
        del logits
        gc.collect()

    step()
    assert sum(allocations(step)) == 0


def test_a_step_twice_over_one_graph_gives_the_same_gradients() -> None:
    model, images = build_model(shallow("t2t_vit_t_14")), torch.randn(2, 3, 64, 64)
    loss, learned = model(images).square().sum(), [one for one in model.parameters() if one.requires_grad]
    first = torch.autograd.grad(loss, learned, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, learned), first)


@pytest.mark.parametrize("changed", ["images", "weights"])
def test_what_changes_before_the_backward_pass_is_refused(changed: str) -> None:
    """As autograd does where nothing is made anew."""
    model, images = build_model(shallow("t2t_vit_7")), torch.randn(2, 3, 64, 64)
    loss = model(images).square().sum()
    with torch.no_grad():
        (images if changed == "images" else model.blocks[0].mlp.fc2.weight).mul_(2)
    with pytest.raises(RuntimeError, match="in place"):
        loss.backward()


def test_anyones_gradient_checkpointing_keeps_next_to_nothing() -> None:
    """torch's own, around a block, as distributed trainers put it there."""
    block = build_model(shallow("t2t_vit_14")).blocks[0].train()
    x = torch.randn(4, 197, 384, requires_grad=True)
    kept = []
    for step in (lambda: block(x), lambda: checkpoint(block, x, use_reentrant=False)):
        outs: list[Tensor] = []
        kept.append(sum(allocations(lambda step=step, outs=outs: outs.append(step()))) - outs[0].nbytes)
    assert kept[1] < 0.05 * kept[0]


def test_gradients_of_each_image_by_torch_func() -> None:
    model, images = build_model(shallow("t2t_vit_7")).eval(), torch.randn(2, 3, 64, 64)
    weights = dict(model.named_parameters())

    def loss(values: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(model, values, (image.unsqueeze(0),)).square().sum()

    found = torch.func.grad(lambda values: sum(loss(values, image) for image in images))(weights)
    learned = {name: one for name, one in weights.items() if one.requires_grad}
    wanted = torch.autograd.grad(model(images).square().sum(), list(learned.values()))
    for name, gradient in zip(learned, wanted, strict=True):
        assert (found[name] - gradient).abs().max() <= 1e-3 * gradient.abs().max(), name


def test_gradients_with_chance_and_in_bfloat16_are_those_of_what_is_kept(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout and drop path draw the same numbers of one seed, whether tensors are made anew or kept."""
    model = build_model(shallow("t2t_vit_7")).train()
    images, found = torch.randn(2, 3, 64, 64), []
    for bound in (0, 1 << 40):
        monkeypatch.setattr(recompute_policy, "REMADE_FROM", bound)
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(images).square().sum()
        loss.backward()
        found.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
        model.zero_grad()
    assert len(found[0]) > 20
    for name, gradient in found[0].items():
        assert torch.equal(gradient, found[1][name]), name
