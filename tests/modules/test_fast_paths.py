"""Fast paths compared with the published formulas: same logits and gradients, and no large tensor is stored."""

import gc
from typing import Any

import pytest
import torch
import torch.nn.functional as F
from reference_modules import reference_module
from shipped import DISTINCT, shallow
from torch import Tensor, nn
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_flatten
from torch.utils.checkpoint import checkpoint

from t2tbuild import build_model, load_spec
from t2tbuild.bench.peak_memory import allocations
from t2tbuild.modules import recompute, recompute_policy
from t2tbuild.modules.soft_split import SoftSplit

pytestmark = pytest.mark.usefixtures("recompute_everything")


@pytest.fixture
def recompute_everything(monkeypatch: pytest.MonkeyPatch) -> None:
    """Training recomputes tensors of any size."""
    monkeypatch.setattr(recompute_policy, "RECOMPUTE_THRESHOLD", 0)


def logits_and_gradients(model: nn.Module, images: Tensor) -> tuple[Tensor, dict[str, Tensor]]:
    """Return the logits, and the gradients of their cross-entropy by parameter."""
    logits = model(images)
    F.cross_entropy(logits, torch.arange(len(images)) % 10).backward()
    return logits.detach(), {name: one.grad for name, one in model.named_parameters() if one.grad is not None}


@pytest.mark.parametrize("name", DISTINCT)
def test_logits_and_gradients_are_those_of_the_formulas(name: str) -> None:
    torch.manual_seed(0)
    model = build_model(shallow(name)).eval()
    images = torch.randn(3, 3, 64, 64)
    images[1, :, 10:40, 10:40] = 2.6  # a flat area, where every patch has no variance
    logits, gradients = logits_and_gradients(model, images)
    expected_logits, expected = logits_and_gradients(reference_module(model), images)
    torch.testing.assert_close(logits, expected_logits, rtol=0, atol=1e-4)
    assert gradients.keys() == expected.keys()
    for parameter, gradient in gradients.items():
        error = (gradient - expected[parameter]).abs().max() / expected[parameter].abs().max().clamp_min(1e-8)
        assert error < 1e-3, parameter


@pytest.mark.parametrize("normed", [True, False])
@pytest.mark.parametrize("frozen", [(), ("x",), ("linear",), ("norm",)])
def test_a_projected_soft_split_is_its_three_steps(normed: bool, frozen: tuple[str, ...]) -> None:
    """Values and gradients with any frozen parts; also in inference, where images are processed one at a time."""
    torch.manual_seed(1)
    split, linear = SoftSplit(patch_size=3, stride=2, padding=1), nn.Linear(5 * 9, 7)
    norm = nn.LayerNorm(5 * 9) if normed else None
    linear.requires_grad_("linear" not in frozen)
    if norm is not None:
        norm.requires_grad_("norm" not in frozen)
    x = torch.linspace(-1, 3, 4 * 5 * 11 * 8).sin().reshape(4, 5, 11, 8).requires_grad_("x" not in frozen)
    expected = linear(split(x) if norm is None else norm(split(x)))
    actual = split.project(x, linear, norm)
    with torch.no_grad():
        torch.testing.assert_close(split.project(x, linear, norm), expected, rtol=1e-5, atol=1e-5)
    modules = [linear, *([] if norm is None else [norm])]
    trained = [one for one in (x, *(p for module in modules for p in module.parameters())) if one.requires_grad]
    of_found, of_wanted = (
        torch.autograd.grad((y * torch.arange(7)).square().sum(), trained) for y in (actual, expected)
    )
    torch.testing.assert_close((actual, *of_found), (expected, *of_wanted), rtol=1e-5, atol=1e-4)


def test_a_transposed_view_of_a_recomputed_tensor_is_saved() -> None:
    x, weight = torch.arange(6.0).reshape(2, 3), torch.ones(3, 2, requires_grad=True)
    y = x * 2
    with recompute.recompute_in_backward(y, lambda: x * 2, source=x):
        (y.T * weight).sum().backward()
    assert weight.grad is not None
    assert torch.equal(weight.grad, y.T)


def test_second_derivatives_are_those_of_the_formulas() -> None:
    """Recomputed tensors can be differentiated again."""
    torch.manual_seed(2)
    model = build_model(shallow("t2t_vit_7")).eval()
    images = torch.randn(2, 3, 64, 64)
    actual = []
    for one in (model, reference_module(model)):
        with sdpa_kernel(SDPBackend.MATH):  # the fused kernel has no second derivative
            first = torch.autograd.grad(one(images).square().sum(), one.blocks[0].mlp.fc1.weight, create_graph=True)[0]
        actual.append(torch.autograd.grad(first.square().sum(), one.blocks[0].norm1.weight)[0])
    assert (actual[0] - actual[1]).abs().max() < 1e-3 * actual[1].abs().max()


@pytest.mark.slow
@pytest.mark.parametrize("name", ["t2t_vit_7", "t2t_vit_t_14", "t2t_vit_16_ghost", "t2t_vit_dense"])
def test_gradient_checkpointing_saves_next_to_nothing(name: str) -> None:
    """Compares bytes alive after a forward pass; the gradients are equal to the bit."""
    model = build_model(load_spec(name, ["model.image_size=64", "model.num_classes=10"]).model)
    images, saved, gradients = torch.randn(2, 3, 64, 64), [], []
    for enable in (False, True):
        model.set_grad_checkpointing(enable)
        model.train()
        torch.manual_seed(3)
        logits: list[Tensor] = []
        saved.append(sum(allocations(lambda out=logits: out.append(model(images)))))
        logits[0].square().sum().backward()
        gradients.append([one.grad for one in model.parameters() if one.grad is not None])
        model.zero_grad()
    assert saved[1] < 0.3 * saved[0]
    for plain, checkpointed in zip(*gradients, strict=True):
        assert torch.equal(plain, checkpointed)


class Largest(TorchDispatchMode):
    """Records the number of elements of the largest output of any operation."""

    numel = 0

    def __torch_dispatch__(self, function: Any, types: Any, args: Any = (), kwargs: Any = None) -> Any:
        out = function(*args, **(kwargs or {}))
        sizes = [one.numel() for one in tree_flatten(out)[0] if isinstance(one, Tensor)]
        self.numel = max(self.numel, *sizes, 0)
        return out


@pytest.mark.parametrize("name", ["t2t_vit_t_14", "t2t_vit_14"])
def test_no_matrix_of_tokens_by_tokens_is_stored(name: str) -> None:
    """Forward and backward: the first stage of a 224 pixel image has 3,136 tokens; their square is 9.8M."""
    model = build_model(load_spec(name, ["model.backbone.depth=1"]).model)
    with Largest() as largest:
        model(torch.randn(1, 3, 224, 224)).sum().backward()
    assert 3136 * 64 <= largest.numel < 3136**2


@pytest.mark.slow
def test_large_tensors_are_recomputed_and_small_ones_saved(monkeypatch: pytest.MonkeyPatch) -> None:
    """Compares bytes alive after a forward pass of eight images at several thresholds."""
    monkeypatch.undo()
    model = build_model(load_spec("t2t_vit_t_14", ["model.backbone.depth=1"]).model).train()
    saved = {}
    for threshold in (0, recompute_policy.RECOMPUTE_THRESHOLD, 1 << 40):
        monkeypatch.setattr(recompute_policy, "RECOMPUTE_THRESHOLD", threshold)
        images, logits = torch.randn(8, 3, 224, 224), []
        saved[threshold] = sum(allocations(lambda images=images, out=logits: out.append(model(images))))
    none, shipped, all_kept = saved.values()
    assert none < shipped < 0.75 * all_kept


@pytest.mark.slow
@pytest.mark.parametrize("retain", [None, False, True])
def test_a_step_leaves_nothing_alive(retain: bool | None) -> None:
    """Checks after a forward pass alone, with a backward pass, and with one that retains the graph."""
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


def test_a_second_backward_pass_over_one_graph_gives_the_same_gradients() -> None:
    model, images = build_model(shallow("t2t_vit_t_14")), torch.randn(2, 3, 64, 64)
    loss, trained = model(images).square().sum(), [one for one in model.parameters() if one.requires_grad]
    first = torch.autograd.grad(loss, trained, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(loss, trained), first)


@pytest.mark.parametrize("changed", ["images", "weights"])
def test_a_change_in_place_before_the_backward_pass_is_an_error(changed: str) -> None:
    """As autograd does without recomputation."""
    model, images = build_model(shallow("t2t_vit_7")), torch.randn(2, 3, 64, 64)
    loss = model(images).square().sum()
    with torch.no_grad():
        (images if changed == "images" else model.blocks[0].mlp.fc2.weight).mul_(2)
    with pytest.raises(RuntimeError, match="in place"):
        loss.backward()


def test_gradient_checkpointing_by_torch_saves_next_to_nothing() -> None:
    """torch's checkpoint around a block, as in distributed trainers."""
    block = build_model(shallow("t2t_vit_14")).blocks[0].train()
    x = torch.randn(4, 197, 384, requires_grad=True)
    saved = []
    for step in (lambda: block(x), lambda: checkpoint(block, x, use_reentrant=False)):
        outs: list[Tensor] = []
        saved.append(sum(allocations(lambda step=step, outs=outs: outs.append(step()))) - outs[0].nbytes)
    assert saved[1] < 0.05 * saved[0]


def test_gradients_of_each_image_by_torch_func() -> None:
    model, images = build_model(shallow("t2t_vit_7")).eval(), torch.randn(2, 3, 64, 64)
    weights = dict(model.named_parameters())

    def loss(values: dict[str, Tensor], image: Tensor) -> Tensor:
        return torch.func.functional_call(model, values, (image.unsqueeze(0),)).square().sum()

    actual = torch.func.grad(lambda values: sum(loss(values, image) for image in images))(weights)
    trained = {name: one for name, one in weights.items() if one.requires_grad}
    expected = torch.autograd.grad(model(images).square().sum(), list(trained.values()))
    for name, gradient in zip(trained, expected, strict=True):
        assert (actual[name] - gradient).abs().max() <= 1e-3 * gradient.abs().max(), name


def test_gradients_with_dropout_in_bfloat16_equal_those_without_recomputation(monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout and drop path draw the same numbers from a seed, with and without recomputation."""
    model = build_model(shallow("t2t_vit_7")).train()
    images, actual = torch.randn(2, 3, 64, 64), []
    for threshold in (0, 1 << 40):
        monkeypatch.setattr(recompute_policy, "RECOMPUTE_THRESHOLD", threshold)
        torch.manual_seed(5)
        with torch.autocast("cpu", torch.bfloat16):
            loss = model(images).square().sum()
        loss.backward()
        actual.append({name: one.grad for name, one in model.named_parameters() if one.grad is not None})
        model.zero_grad()
    assert len(actual[0]) > 20
    for name, gradient in actual[0].items():
        assert torch.equal(gradient, actual[1][name]), name


@pytest.mark.parametrize(
    ("owner", "name"), [(torch._C._autograd, "_top_saved_tensors_default_hooks"), (Tensor, "_version")]
)
def test_without_torchs_private_names_tensors_are_saved_with_one_warning(
    monkeypatch: pytest.MonkeyPatch, owner: object, name: str
) -> None:
    """Logits and gradients stay the same, to the bit."""
    model, images = build_model(shallow("t2t_vit_7")).eval(), torch.randn(2, 3, 64, 64)
    logits, gradients = logits_and_gradients(model, images)
    model.zero_grad()
    recompute._warn_unsupported.cache_clear()
    if isinstance(owner, type):  # an attribute of C's base class cannot be deleted
        monkeypatch.setattr(owner, name, property(_missing), raising=False)
    else:
        monkeypatch.delattr(owner, name)
    with pytest.warns(UserWarning, match=f"recomputation.*{name}") as caught:
        plain_logits, plain_gradients = logits_and_gradients(model, images)
    assert len(caught) == 1
    assert torch.equal(plain_logits, logits)
    assert all(torch.equal(plain_gradients[key], gradient) for key, gradient in gradients.items())
    recompute._warn_unsupported.cache_clear()


def _missing(_tensor: Tensor) -> int:
    raise AttributeError("Tensor has no attribute _version")
