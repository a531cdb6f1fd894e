"""Soft split: overlapping patches become tokens (Section 3.1, Equations 2 and 3 of the paper)."""

from collections.abc import Callable
from functools import partial
from typing import Any

import torch
import torch.fx
import torch.nn.functional as F
from torch import Tensor, nn
from torch.autograd.function import once_differentiable


def windows_along(side: int, patch_size: int, stride: int, padding: int) -> int:
    """How many windows fit along a side: floor((side + 2 padding - patch_size) / stride) + 1."""
    return (side + 2 * padding - patch_size) // stride + 1


class SoftSplit(nn.Module):
    """Concatenate the pixels of each patch of side `patch_size`, taken every `stride` pixels, into one token."""

    def __init__(self, *, patch_size: int, stride: int, padding: int) -> None:
        super().__init__()
        self.patch_size, self.stride, self.padding = patch_size, stride, padding

    def forward(self, image_BCHW: Tensor) -> Tensor:
        """[B, C, height, width] -> [B, N, C * patch_size^2]."""
        return F.unfold(image_BCHW, self.patch_size, padding=self.padding, stride=self.stride).transpose(1, 2)

    def project(self, x_BCHW: Tensor, linear: nn.Linear, norm: nn.LayerNorm | None = None) -> Tensor:
        """linear(norm(self(x))): [B, C, height, width] -> [B, N, linear.out_features].

        In float32 on a CPU image by image, so that the tokens of one alone, up to nine times its pixels, are laid out
        at a time: they stay in the cache, and training keeps none of them, but lays them out again on the way back.
        """
        if not _goes_image_by_image(x_BCHW):
            x_BNC = self(x_BCHW)
            return linear(x_BNC if norm is None else norm(x_BNC))  # type: ignore[no-any-return]
        norm_weight, norm_bias = (None, None) if norm is None else (norm.weight, norm.bias)
        normed = partial(_normed_tokens, self, None if norm is None else norm.eps)
        return _ImageByImage.apply(normed, x_BCHW, norm_weight, norm_bias, linear.weight, linear.bias)  # type: ignore[no-untyped-call, no-any-return]

    def extra_repr(self) -> str:
        return f"patch_size={self.patch_size}, stride={self.stride}, padding={self.padding}"


def _goes_image_by_image(x: Tensor) -> bool:
    """Whether tokens of one image at a time pay: measured on a CPU in float32 (benchmarks/speed.py).

    Tracers, exporters and compilers see the three steps as they are.
    """
    if isinstance(x, torch.fx.Proxy) or torch.jit.is_tracing() or torch.compiler.is_compiling():
        return False
    return x.device.type == "cpu" and x.dtype is torch.float32 and not torch.is_autocast_enabled("cpu")


def _normed_tokens(
    split: SoftSplit, eps: float | None, x_1CHW: Tensor, weight_C: Tensor | None, bias_C: Tensor | None
) -> Tensor:
    """The tokens of one image, normed where there is a norm: [N, C]."""
    x_NC = split(x_1CHW)[0]
    return x_NC if eps is None else F.layer_norm(x_NC, x_NC.shape[1:], weight_C, bias_C, eps)


class _ImageByImage(torch.autograd.Function):
    """linear(tokens(image)) for each image; what it keeps is the images."""

    @staticmethod
    def forward(
        ctx: Any,
        tokens: Callable[..., Tensor],
        x_BCHW: Tensor,
        norm_weight_C: Tensor | None,
        norm_bias_C: Tensor | None,
        weight_OC: Tensor,
        bias_O: Tensor | None,
    ) -> Tensor:
        ctx.tokens, ctx.has_bias = tokens, bias_O is not None
        ctx.save_for_backward(x_BCHW, norm_weight_C, norm_bias_C, weight_OC)
        images = (F.linear(tokens(x_1CHW, norm_weight_C, norm_bias_C), weight_OC, bias_O) for x_1CHW in x_BCHW.split(1))
        first = next(images)
        y_BNO = first.new_empty(len(x_BCHW), *first.shape)
        y_BNO[0] = first
        for index, y_NO in enumerate(images, start=1):
            y_BNO[index] = y_NO
        return y_BNO

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad_BNO: Tensor) -> tuple[Tensor | None, ...]:
        x_BCHW, norm_weight_C, norm_bias_C, weight_OC = ctx.saved_tensors
        asked = dict(zip(("x", "norm_weight", "norm_bias"), ctx.needs_input_grad[1:4], strict=True))
        of_x = torch.empty_like(x_BCHW) if asked["x"] else None
        of_weight, of_norm = torch.zeros_like(weight_OC), None
        for index, (x_1CHW, grad_NO) in enumerate(zip(x_BCHW.split(1), grad_BNO, strict=True)):
            with torch.enable_grad():
                sources = {"x": x_1CHW.detach(), "norm_weight": norm_weight_C, "norm_bias": norm_bias_C}
                wanted = {name: sources[name].detach().requires_grad_() for name, wants in asked.items() if wants}
                x_NC = ctx.tokens(*({**sources, **wanted}[name] for name in sources))
            of_weight.addmm_(grad_NO.T, x_NC.detach())
            if not wanted:
                continue
            found = dict(
                zip(wanted, torch.autograd.grad(x_NC, list(wanted.values()), grad_NO @ weight_OC), strict=True)
            )
            if of_x is not None:
                of_x[index] = found.pop("x")[0]
            of_norm = found if of_norm is None else {name: of_norm[name] + found[name] for name in found}
        norms = of_norm or {}
        of_bias = grad_BNO.sum(dim=(0, 1)) if ctx.has_bias else None
        return None, of_x, norms.get("norm_weight"), norms.get("norm_bias"), of_weight, of_bias
