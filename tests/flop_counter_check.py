"""A second opinion on products: what torch's own FlopCounterMode sees of a forward pass, beside fvcore's count.

fvcore reads the operators of a trace, which models call; FlopCounterMode sees those that reach the kernels, and counts
two operations a multiply-add. So a linear layer is an `aten::linear` for one and an mm or addmm for the other.
"""

from collections import Counter
from collections.abc import Mapping
from typing import Any

import torch
from torch import nn
from torch.utils.flop_counter import FlopCounterMode

from t2tbuild.cost.counter import _analyse

CONVOLUTION, MATRIX, ATTENTION = "convolution", "matrix products", "attention"

FVCORE = {
    "conv": CONVOLUTION,
    "einsum": MATRIX,
    "linear": MATRIX,
    "matmul": MATRIX,
    "scaled_dot_product_attention": ATTENTION,
}
ONLY_FVCORE = {"adaptive_avg_pool2d", "batch_norm", "layer_norm"}
"""What fvcore counts beside products: 5 an element of a LayerNorm, 2 of a BatchNorm whose statistics are fixed, and 1
of what is pooled."""

KERNELS = {
    torch.ops.aten.convolution: CONVOLUTION,
    torch.ops.aten.addmm: MATRIX,
    torch.ops.aten.bmm: MATRIX,
    torch.ops.aten.mm: MATRIX,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: ATTENTION,  # has a formula, as the GPU's have
}


def fvcore_products(model: nn.Module, input_size: tuple[int, int, int]) -> Counter[str]:
    """Our count without what only fvcore counts. Raises KeyError on an operator that is in neither list."""
    counts = _analyse(model, input_size).by_operator()
    return _sum({name: count for name, count in counts.items() if name not in ONLY_FVCORE}, FVCORE)


def torch_products(model: nn.Module, input_size: tuple[int, int, int]) -> Counter[str]:
    """Half of FlopCounterMode's count. Raises KeyError on an operator that it counts and KERNELS does not name.

    Gradients stay on: without, it fails on models that hand a parameter to a module, as CaiT its class token.
    """
    with FlopCounterMode(display=False) as counter:
        model.eval()(torch.zeros(1, *input_size))
    doubled = _sum(counter.get_flop_counts()["Global"], KERNELS)
    return Counter({family: flops // 2 for family, flops in doubled.items()})


def _sum(counts: Mapping[Any, int], families: Mapping[Any, str]) -> Counter[str]:
    summed: Counter[str] = Counter()
    for operator, count in counts.items():
        summed[families[operator]] += count
    return summed
