"""The judge: fvcore counts the built module."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch

with warnings.catch_warnings():  # fvcore still decorates with torch.jit.script, which is deprecated
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis


from t2tbuild.build import build_model
from t2tbuild.cost.closed_form import predict_cost
from t2tbuild.cost.model import Cost, PartCost
from t2tbuild.errors import CostError
from t2tbuild.modules.vit import T2TViT
from t2tbuild.parts import Part
from t2tbuild.spec.model import ModelSpec

LARGE_MACS, LARGE_PARAMS = 20 * 10**9, 200 * 10**6  # beyond, the meta device's five seconds of start-up pay

# Operators of our models that DESIGN's convention counts as nothing: element-wise work, sums, and moving data about.
FREE = frozenset(
    {
        "aten::add",
        "aten::div",
        "aten::dropout",
        "aten::exp",
        "aten::gelu",
        "aten::im2col",
        "aten::mul",
        "aten::square",
        "aten::sub",
        "aten::sum",
        "aten::unflatten",
    }
)


def measure_cost(model: T2TViT) -> Cost:
    """Count a model that `build_model` made, in eval mode, on one image, with fvcore.

    Parts are `model.parts`. Raises CostError on an operator that is neither counted nor known to be free, and when the
    parts do not add up to the whole.

        >>> from t2tbuild import build_model, load_spec
        >>> measure_cost(build_model(load_spec("t2t_vit_7", ["model.image_size=64"]).model)).trainable_params
        4255694
    """
    analysis = _analyse(model)
    strange = {name: count for name, count in analysis.unsupported_ops().items() if name not in FREE}
    if strange:
        raise CostError(f"fvcore cannot count {', '.join(sorted(strange))}; the total would be too low")
    by_module: Counter[str] = analysis.by_module()
    params = {name: parameter.numel() for name, parameter in model.named_parameters()}
    parts = tuple(
        PartCost(
            name=row.name,
            grid=row.grid,
            tokens=row.tokens,
            channels=row.channels,
            params=sum(count for name, count in params.items() if _belongs(name, row)),
            macs=sum(by_module[module] for module in row.modules),
        )
        for row in model.parts
    )
    total = Cost(
        params=sum(params.values()),
        trainable_params=sum(parameter.numel() for parameter in model.parameters() if parameter.requires_grad),
        macs=by_module[""],
        parts=parts,
    )
    if sum(part.macs for part in parts) != total.macs or sum(part.params for part in parts) != total.params:
        raise CostError("the parts of the model do not add up to the whole: some module belongs to no part")
    return total


def count_model(model: ModelSpec) -> Cost:
    """Build a model and count it; a large one on the meta device, which needs neither its memory nor its time."""
    predicted = predict_cost(model)
    large = predicted.macs > LARGE_MACS or predicted.params > LARGE_PARAMS
    with torch.device("meta" if large else "cpu"):
        return measure_cost(build_model(model))


def _belongs(parameter: str, part: Part) -> bool:
    return any(parameter == module or parameter.startswith(f"{module}.") for module in part.modules)


def _analyse(model: T2TViT) -> FlopCountAnalysis:
    device = next(model.parameters()).device
    image = torch.zeros(1, *model.input_size, device=device)
    was_training = model.training
    try:
        with _quiet(), torch.no_grad():
            analysis = FlopCountAnalysis(model.eval(), image)
            analysis.set_op_handle("aten::scaled_dot_product_attention", _count_attention)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    finally:
        model.train(was_training)
    return analysis


def _count_attention(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """Q K^T and A V of [..., N, D] queries, [..., K, D] keys and [..., K, V] values: N K D + N K V a head."""
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    heads = 1
    for size in query[:-2]:
        heads *= size
    return Counter({"scaled_dot_product_attention": heads * query[-2] * key[-2] * (query[-1] + value[-1])})


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tracer's remarks, which are about constants in our own shapes."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
