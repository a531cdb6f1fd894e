"""Recomputation of cheap tensors: training saves how to recompute them in the backward pass, not their values."""

import functools
import warnings
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

import torch
import torch.fx
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks

from t2tbuild.modules import recompute_policy


class _Recomputed(NamedTuple):
    """The shape of a tensor that is recomputed; autograd saves it instead of the values."""

    shape: torch.Size


class _Saved(NamedTuple):
    """The values of any other tensor and their version, as autograd saves them.

    The tensor is detached, because a reference to its graph would make a cycle.
    """

    tensor: Tensor
    version: int


@contextmanager
def recompute_in_backward(tensor: Tensor, recompute: Callable[[], Tensor], *, source: Tensor) -> Iterator[None]:
    """Within this context, autograd saves no copy of `tensor`: the backward pass calls `recompute` instead.

    Args:
        tensor: A contiguous tensor that operations within the context read.
        recompute: Returns the same values, computed from `source`. It runs without autocast, so a copy of `tensor` in a
            narrower dtype is saved as usual.
        source: The tensor that `recompute` reads. It must not change before the backward pass.

    The context has no effect on tensors below RECOMPUTE_THRESHOLD bytes, without gradients, on subclasses of Tensor,
    and wherever something else decides what autograd saves: a compiler, a tracer, gradient checkpointing, torch.func.
    If torch no longer has the private functions that this needs, it warns once and has no effect.

    Raises RuntimeError in the backward pass if a saved tensor or `source` was changed in place, as autograd does.
    """
    if not (is_eager(tensor) and _can_replace_saved(tensor)):
        yield
        return
    address, numel, dtype, source_version = tensor.data_ptr(), tensor.numel(), tensor.dtype, source._version

    def pack(saved: Tensor) -> _Recomputed | _Saved:
        same = saved.data_ptr() == address and saved.numel() == numel and saved.dtype == dtype and saved.is_contiguous()
        return _Recomputed(saved.shape) if same else _Saved(saved.detach(), saved._version)

    def unpack(packed: _Recomputed | _Saved) -> Tensor:
        if isinstance(packed, _Saved):
            _check_version(packed.tensor, packed.version)
            return packed.tensor
        _check_version(source, source_version)
        with torch.no_grad():
            return recompute().view(packed.shape)

    pack.is_recompute_hook = True  # type: ignore[attr-defined]
    with ExitStack() as stack:
        with suppress(RuntimeError):  # something has disabled hooks
            stack.enter_context(saved_tensors_hooks(pack, unpack))
        yield


def is_eager(x: Tensor) -> bool:
    """Return whether operations on `x` run at once, not under a compiler, an exporter or a tracer."""
    return not (torch.compiler.is_compiling() or isinstance(x, torch.fx.Proxy) or torch.jit.is_tracing())  # type: ignore[attr-defined, no-untyped-call]


def _can_replace_saved(tensor: Tensor) -> bool:
    """Return whether autograd saves `tensor` for gradients, no other hooks are active, and its size is worth it."""
    if not torch.is_grad_enabled() or type(tensor) is not Tensor or not _has_storage(tensor):
        return False
    if tensor.nbytes < recompute_policy.RECOMPUTE_THRESHOLD:
        return False
    try:
        hooks = torch._C._autograd._top_saved_tensors_default_hooks(True)
        tensor._version  # noqa: B018
    except (AttributeError, TypeError) as error:
        _warn_unsupported(str(error))
        return False
    return hooks is None or hasattr(hooks[0], "is_recompute_hook")


def _has_storage(tensor: Tensor) -> bool:
    """Return whether a tensor has memory of its own; the wrappers of torch.func and meta tensors have none."""
    try:
        return tensor.data_ptr() != 0
    except RuntimeError:
        return False


@functools.cache
def _warn_unsupported(reason: str) -> None:
    warnings.warn(
        f"torch {torch.__version__} lacks what recomputation needs ({reason}): training saves large activations, "
        "and takes more memory than predicted",
        stacklevel=2,
    )


def _check_version(tensor: Tensor, version: int) -> None:
    if tensor._version != version:
        raise RuntimeError(
            f"a tensor of shape {list(tensor.shape)} that gradients need was changed in place after the forward pass"
        )
