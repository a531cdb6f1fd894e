"""Compare fvcore's count of matrix products with that of torch's FlopCounterMode.

fvcore counts the operators of a trace, as the model calls them; FlopCounterMode those that reach the kernels, with two
operations per multiply-add. A linear layer is an `aten::linear` for fvcore, and an mm or addmm for FlopCounterMode.
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
"""Operators that only fvcore counts: 5 per element of a LayerNorm, 2 of a BatchNorm in eval mode, 1 of a pooling."""

KERNELS = {
    torch.ops.aten.convolution: CONVOLUTION,
    torch.ops.aten.addmm: MATRIX,
    torch.ops.aten.bmm: MATRIX,
    torch.ops.aten.mm: MATRIX,
    torch.ops.aten._scaled_dot_product_flash_attention_for_cpu: ATTENTION,  # counted, as on a GPU
}


def fvcore_products(model: nn.Module, input_size: tuple[int, int, int]) -> Counter[str]:
    """Return our count by family, without ONLY_FVCORE. Raises KeyError for an operator that is in neither list."""
    counts = _analyse(model, input_size).by_operator()
    return _sum({name: count for name, count in counts.items() if name not in ONLY_FVCORE}, FVCORE)


def torch_products(model: nn.Module, input_size: tuple[int, int, int]) -> Counter[str]:
    """Return half of FlopCounterMode's count by family. Raises KeyError for a counted operator that is not in KERNELS.

    Gradients stay enabled: without them it fails on models that pass a parameter to a module, such as CaiT.
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
