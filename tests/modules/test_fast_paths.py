"""Fast paths against the published formulas: the same logits and gradients, and nothing large is stored."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from naive import naive
from shipped import OURS, shallow
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from t2tbuild import build_model, load_spec
from t2tbuild.cost.device import allocations
from t2tbuild.modules import recompute
from t2tbuild.modules.soft_split import SoftSplit

pytestmark = pytest.mark.usefixtures("all_remade")


@pytest.fixture
def all_remade(monkeypatch: pytest.MonkeyPatch) -> None:
    """However small a tensor is, training makes it anew."""
    monkeypatch.setattr(recompute, "REMADE_FROM", 0)


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
    wanted_logits, wanted = learned(naive(model), images)
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
    with recompute.recomputed(y, lambda: x * 2):
        (y.T * weight).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, y.T)


def test_second_derivatives_are_those_of_the_formulas() -> None:
    """What is computed again on the way back can itself be differentiated."""
    torch.manual_seed(2)
    model = build_model(shallow("t2t_vit_7")).eval()
    images = torch.randn(2, 3, 64, 64)
    found = []
    for one in (model, naive(model)):
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
    for bound in (0, recompute.REMADE_FROM, 1 << 40):
        monkeypatch.setattr(recompute, "REMADE_FROM", bound)
        images, logits = torch.randn(8, 3, 224, 224), []
        kept[bound] = sum(allocations(lambda images=images, out=logits: out.append(model(images))))
    none, shipped, all_kept = kept.values()
    assert none < shipped < 0.75 * all_kept
