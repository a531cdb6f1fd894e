"""Training keeps how to make a tensor again, where that is cheap, rather than the tensor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

import torch
import torch.fx
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from t2tbuild.modules import recompute_policy


class _Again(NamedTuple):
    """What autograd keeps of a tensor that is made anew: its shape there."""

    shape: torch.Size


class _Kept(NamedTuple):
    """What autograd keeps of any other: without its graph, which would close a circle, and as often changed as then."""

    tensor: Tensor
    version: int


@contextmanager
def recomputed(tensor: Tensor, make: Callable[[], Tensor], *, of: Tensor) -> Iterator[None]:
    """Within this context autograd keeps `make` wherever it would keep `tensor`, and calls it on the way back.

    `make` must give the same numbers from `of`, which stays as it is until then, and `tensor` be contiguous. It runs
    without autocast: what a product is given in a narrower type than `tensor` has is kept. Nothing happens below
    REMADE_FROM bytes, without gradients, where somebody else decides what is kept (a compiler, a tracer, gradient
    checkpointing, torch.func) and for other kinds of tensors. On the way back raises RuntimeError if a tensor was
    changed in place, as autograd does.
    """
    if not (
        runs_eagerly(tensor) and _is_ours_to_decide(tensor) and tensor.nbytes >= recompute_policy.RECOMPUTE_THRESHOLD
    ):
        yield
        return
    place, numbers, dtype, source_version = tensor.data_ptr(), tensor.numel(), tensor.dtype, of._version

    def pack(kept: Tensor) -> _Again | _Kept:
        same = kept.data_ptr() == place and kept.numel() == numbers and kept.dtype == dtype and kept.is_contiguous()
        return _Again(kept.shape) if same else _Kept(kept.detach(), kept._version)

    def unpack(packed: _Again | _Kept) -> Tensor:
        if isinstance(packed, _Kept):
            _unchanged(packed.tensor, packed.version)
            return packed.tensor
        _unchanged(of, source_version)
        with torch.no_grad():
            return make().view(packed.shape)

    pack.is_ours = True  # type: ignore[attr-defined]
    with saved_tensors_hooks(pack, unpack):
        yield


def runs_eagerly(x: Tensor) -> bool:
    """Whether what is done to `x` runs at once, with no compiler, exporter or tracer that looks on."""
    traced = isinstance(x, torch.fx.Proxy) or torch._C._get_tracing_state() is not None
    return not (traced or torch.compiler.is_compiling())


def _is_ours_to_decide(tensor: Tensor) -> bool:
    """Whether gradients of a plain tensor are computed, and nobody else has hooks on what is kept for them."""
    if not torch.is_grad_enabled() or type(tensor) is not Tensor or torch._C._are_functorch_transforms_active():
        return False
    hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
    if not torch._C._autograd._saved_tensors_hooks_is_enabled():  # type: ignore[attr-defined]
        return False
    return hooks is None or hasattr(hooks[0], "is_ours")


def _unchanged(tensor: Tensor, version: int) -> None:
    if tensor._version != version:
        raise RuntimeError(
            f"a tensor of shape {list(tensor.shape)} that gradients need has been changed in place since it was read"
        )
