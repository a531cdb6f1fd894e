"""Fast paths against the published formulas: the same logits and gradients, and nothing large is stored."""

from typing import Any

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten

from t2tbuild import build_model, load_spec
from t2tbuild.modules import soft_split as room
from t2tbuild.modules.soft_split import SoftSplit
from t2tbuild.spec import ModelSpec, catalog
from tests.naive import naive

OURS = [name for name in catalog.names("specs") if isinstance(load_spec(name).model, ModelSpec)]


def shallow(name: str, *overrides: str) -> ModelSpec:
    """A shipped model with three blocks, at 64 pixels."""
    kind = load_spec(name).model.backbone.kind
    less = "model.backbone.blocks=[1, 1, 1, 1]" if kind == "dense" else "model.backbone.depth=3"
    return load_spec(name, [less, "model.image_size=64", "model.num_classes=10", *overrides]).model


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
def test_image_by_image_is_all_at_once(normed: bool, frozen: tuple[str, ...], monkeypatch: pytest.MonkeyPatch) -> None:
    """Values and gradients, whatever is frozen."""
    torch.manual_seed(1)
    split, linear = SoftSplit(patch_size=3, stride=2, padding=1), nn.Linear(5 * 9, 7)
    norm = nn.LayerNorm(5 * 9) if normed else None
    parts = {"linear": linear, "norm": norm}
    for name in frozen:
        part = parts.get(name)
        if part is not None:
            part.requires_grad_(False)
    found = []
    for fast in (True, False):
        if not fast:
            monkeypatch.setattr(room, "_goes_image_by_image", lambda _x: False)
        x = torch.linspace(-1, 3, 4 * 5 * 11 * 8).sin().reshape(4, 5, 11, 8).requires_grad_("x" not in frozen)
        learnable = [
            one for part in (linear, norm) if part is not None for one in part.parameters() if one.requires_grad
        ]
        y = split.project(x, linear, norm)
        given = [*learnable, *([x] if x.requires_grad else [])]
        found.append([y, *torch.autograd.grad((y * torch.arange(7)).square().sum(), given)])
    for fast_one, plain_one in zip(*found, strict=True):
        torch.testing.assert_close(fast_one, plain_one, rtol=1e-5, atol=1e-4)


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


@pytest.mark.parametrize("name", OURS)
def test_compiles_without_a_graph_break_for_any_batch(name: str) -> None:
    torch._dynamo.reset()
    model = build_model(shallow(name)).train()
    compiled = torch.compile(model, fullgraph=True, dynamic=True, backend="aot_eager")
    for batch in (2, 3):
        logits = compiled(torch.randn(batch, 3, 64, 64))
        logits.sum().backward()
        assert logits.shape == (batch, 10)
        assert torch.isfinite(logits).all()


def test_compiled_logits_are_those_of_the_model() -> None:
    torch._dynamo.reset()
    model = build_model(shallow("t2t_vit_7")).eval()
    images = torch.randn(2, 3, 64, 64)
    with torch.no_grad():
        torch.testing.assert_close(torch.compile(model, fullgraph=True)(images), model(images), rtol=1e-4, atol=1e-4)
