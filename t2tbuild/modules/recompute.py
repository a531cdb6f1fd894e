"""Training keeps how to make a tensor again, where that is cheap, rather than the tensor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from typing import Any

import torch
import torch.fx
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from t2tbuild.modules import REMADE_FROM

_keeps_all = ContextVar("_keeps_all", default=False)


@contextmanager
def recomputed(tensor: Tensor, make: Callable[[], Tensor]) -> Iterator[None]:
    """Within this context autograd keeps `make` wherever it would keep `tensor`, and calls it on the way back.

    `make` must give the same numbers, and `tensor` be contiguous. Nothing happens below REMADE_FROM bytes, without
    gradients, and under tracers and compilers, which choose themselves what to compute again.
    """
    if not runs_eagerly(tensor) or _keeps_all.get() or not torch.is_grad_enabled() or tensor.nbytes < REMADE_FROM:
        yield
        return
    place, numbers, dtype = tensor.data_ptr(), tensor.numel(), tensor.dtype

    def pack(kept: Tensor) -> Tensor | torch.Size:
        same = kept.data_ptr() == place and kept.numel() == numbers and kept.dtype == dtype and kept.is_contiguous()
        return kept.shape if same else kept

    def unpack(packed: Tensor | torch.Size) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            return make().view(packed)

    with saved_tensors_hooks(pack, unpack):
        yield


def runs_eagerly(x: Tensor) -> bool:
    """Whether what is done to `x` runs at once, with no compiler, exporter or tracer that looks on."""
    traced = isinstance(x, torch.fx.Proxy) or torch._C._get_tracing_state() is not None
    return not (traced or torch.compiler.is_compiling())


@contextmanager
def keeping_all() -> Iterator[None]:
    """A context in which `recomputed` does nothing: gradient checkpointing has hooks of its own on all that is kept."""
    token = _keeps_all.set(True)
    try:
        yield
    finally:
        _keeps_all.reset(token)


def keeping_all_twice() -> tuple[Any, Any]:
    """`keeping_all` for the forward pass and for its repetition, as torch's `checkpoint` asks for contexts."""
    return keeping_all(), keeping_all()
