"""Training keeps how to make a tensor again, where that is cheap, rather than the tensor."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor
from torch.autograd.graph import saved_tensors_hooks


@contextmanager
def recomputed(tensor: Tensor, make: Callable[[], Tensor]) -> Iterator[None]:
    """Within this context autograd keeps `make` wherever it would keep `tensor`, and calls it on the way back.

    `make` must give the same numbers. Compilers choose themselves what to compute again, so they see nothing of it.
    """
    if not torch.is_grad_enabled() or torch.compiler.is_compiling() or torch.jit.is_tracing():
        yield
        return
    place = tensor.data_ptr()

    def pack(kept: Tensor) -> Any:
        same = kept.data_ptr() == place and kept.numel() == tensor_size and kept.dtype == dtype
        return (kept.shape,) if same else kept

    def unpack(packed: Any) -> Tensor:
        if isinstance(packed, Tensor):
            return packed
        with torch.no_grad():
            return make().view(packed[0])

    tensor_size, dtype = tensor.numel(), tensor.dtype
    with saved_tensors_hooks(pack, unpack):
        yield
