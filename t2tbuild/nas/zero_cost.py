"""Zero-cost proxies: scores of an untrained candidate on one batch of real images, higher is better.

Most of them measure size, and within a budget little signal is left (ViT-Bench-101: Kendall tau of 0.4 to 0.7 over all
sizes, -0.2 to 0.4 within 5% of equal MACs). So a search reports them, and chooses by one only where it correlates with
training in this search. Images must be real: the first LayerNorm maps all-ones images to zero.

L is the mean cross-entropy of the batch, w a trainable parameter, g = dL/dw, and R the sum of the logits of the model
with the absolute values of its weights.
"""

import copy
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import get_args

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from t2tbuild.cost.counter import known_cost
from t2tbuild.nas.layer_groups import attention_layers, mlp_layers, preactivations
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import ZeroCostName

MAX_ACTIVATIONS = 4096
"""Activations per layer that `naswot` uses, evenly spaced; using all of them gives the same ranking."""


def zero_cost_proxies(
    names: Sequence[ZeroCostName], spec: ModelSpec, model: nn.Module, images: Tensor, labels: Tensor
) -> dict[str, float]:
    """Return the zero-cost proxies of `names` for an untrained model, without those that are not finite.

    `model` is the proxy model of `spec`; its state is unchanged afterwards. `images` are [B, C, height, width],
    `labels` [B]. params, macs and depth are those of `spec`, at full size.
    """
    modes = {module: module.training for module in model.modules()}
    model.eval()
    cost = known_cost(spec)
    found: dict[str, float] = {"params": cost.params, "macs": cost.macs, "depth": spec.backbone.num_blocks}
    if "naswot" in names:
        found["naswot"] = naswot(model, images)
    if "weight_norm" in names:
        found["weight_norm"] = weight_norm(model)
    if {"snip", "grad_norm"} & set(names):
        gradients = _gradients(model, lambda: F.cross_entropy(model(images), labels))
        found |= {"snip": snip(gradients), "grad_norm": grad_norm(gradients)}
    if {"synflow", "dss"} & set(names):
        with _absolute_weights(model):
            gradients = _gradients(model, lambda: model(images).sum())
            found |= {"synflow": synflow(gradients), "dss": dss(model)}
    model.zero_grad(set_to_none=True)
    for module, mode in modes.items():
        module.training = mode
    assert set(found) <= set(get_args(ZeroCostName))
    return {name: float(found[name]) for name in names if math.isfinite(found[name])}


@torch.no_grad()
def naswot(model: nn.Module, images: Tensor) -> float:
    """Return log |det K|, K the mean over layers of (C C^T + (1 - C)(1 - C)^T) / n, C = [preactivation > 0], [B, n].

    Mellor et al., Neural Architecture Search without Training, ICML 2021. The layers are those before the GELU of each
    MLP. The paper sums over layers and does not divide by n, the number of activations; here all layers have the same
    weight.
    """
    kernels: list[Tensor] = []

    def add_kernel(_layer: nn.Module, _inputs: object, output: Tensor) -> None:
        flat = output.flatten(1)
        signs = (flat[:, :: max(1, flat.shape[1] // MAX_ACTIVATIONS)] > 0).double()
        equal = signs @ signs.T + (1 - signs) @ (1 - signs).T
        kernels.append(equal / signs.shape[1])

    hooks = [layer.register_forward_hook(add_kernel) for layer in preactivations(model)]
    try:
        model(images)
    finally:
        for hook in hooks:
            hook.remove()
    return torch.linalg.slogdet(torch.stack(kernels).mean(0))[1].item() if kernels else math.nan


@torch.no_grad()
def weight_norm(model: nn.Module) -> float:
    """Return the sum of ||w||_2 over the trainable matrices, without position tables and random features."""
    return math.fsum(w.norm().item() for w in model.parameters() if w.requires_grad and w.ndim > 1)


def snip(gradients: Mapping[nn.Parameter, Tensor]) -> float:
    """Return the sum of |g * w|, the sensitivity of the loss to each weight (Lee et al., SNIP, ICLR 2019)."""
    return math.fsum((gradient * w.detach()).abs().sum().item() for w, gradient in gradients.items())


def grad_norm(gradients: Mapping[nn.Parameter, Tensor]) -> float:
    """Return the sum of ||g||_2 (Abdelfattah et al., Zero-Cost Proxies for Lightweight NAS, ICLR 2021)."""
    return math.fsum(gradient.norm().item() for gradient in gradients.values())


def synflow(gradients: Mapping[nn.Parameter, Tensor]) -> float:
    """Return the log of the sum of |w * dR/dw| (Tanaka et al., Pruning neural networks without any data, NeurIPS 2020).

    The paper uses all-ones images, which LayerNorm maps to zero, so R is that of a real batch here.
    """
    total = math.fsum((gradient * w.detach()).abs().sum().item() for w, gradient in gradients.items())
    return math.log(total) if total > 0 else -math.inf


@torch.no_grad()
def dss(model: nn.Module) -> float:
    """Return the sum over layers of log(1 + s), s = ||dR/dW||_* ||W||_* for attention and sum |dR/dW * W| for MLPs.

    Zhou et al., Training-free Transformer Architecture Search, CVPR 2022. The paper sums s itself, where one layer
    outweighs all others. The gradients are read from the model's parameters.
    """
    total = 0.0
    for layer in attention_layers(model):
        nuclear = [torch.linalg.matrix_norm(one.float(), "nuc").item() for one in (layer.weight, _gradient(layer))]
        total += math.log1p(nuclear[0] * nuclear[1])
    for layer in mlp_layers(model):
        total += math.log1p((layer.weight * _gradient(layer)).abs().sum().item())
    return total


def _gradient(layer: nn.Linear) -> Tensor:
    return torch.zeros_like(layer.weight) if layer.weight.grad is None else layer.weight.grad


def _gradients(model: nn.Module, value: Callable[[], Tensor]) -> dict[nn.Parameter, Tensor]:
    """Return the gradient of a value with respect to each trainable parameter; it also stays in `.grad`."""
    model.zero_grad(set_to_none=True)
    value().backward()  # type: ignore[no-untyped-call]
    return {w: w.grad for w in model.parameters() if w.grad is not None}


@contextmanager
def _absolute_weights(model: nn.Module) -> Iterator[None]:
    """Replace trainable weights by their absolute values within this context."""
    original = copy.deepcopy(model.state_dict())
    with torch.no_grad():
        for w in model.parameters():
            if w.requires_grad:
                w.abs_()
    try:
        yield
    finally:
        model.load_state_dict(original)
