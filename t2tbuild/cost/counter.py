"""The judge: fvcore counts the built module."""

import logging
import warnings
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import nn

with warnings.catch_warnings():  # fvcore still decorates with torch.jit.script, which is deprecated
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis


from t2tbuild.build import build_model
from t2tbuild.cost.closed_form import predict_cost
from t2tbuild.cost.model import Cost, PartCost
from t2tbuild.errors import CostError
from t2tbuild.modules.vit import T2TViT
from t2tbuild.parts import Part
from t2tbuild.spec.model import AnyModel, ModelSpec
from t2tbuild.spec.tokenizer import T2TTokenizer

LARGE_MACS, LARGE_PARAMS = 20 * 10**9, 200 * 10**6  # beyond, the meta device's five seconds of start-up pay

# Operators that DESIGN's convention counts as nothing: element-wise work, sums, pooling, and moving data about.
FREE = frozenset(
    {
        "aten::add",
        "aten::add_",
        "aten::avg_pool2d",
        "aten::div",
        "aten::dropout",
        "aten::exp",
        "aten::gelu",
        "aten::hardsigmoid",
        "aten::hardswish_",
        "aten::hardtanh_",
        "aten::im2col",
        "aten::max_pool2d",
        "aten::mean",
        "aten::mul",
        "aten::sigmoid",
        "aten::square",
        "aten::sub",
        "aten::sum",
        "aten::unflatten",
    }
)


def measure_cost(model: nn.Module, input_size: tuple[int, int, int] | None = None) -> Cost:
    """Count a model that `build_model` made, in eval mode, on one image, with fvcore.

    Parts are `model.parts`, of a timm model its children. `input_size` is the image's (channels, height, width); left
    out, the model's own. Raises CostError on an operator that is neither counted nor known to be free, and when the
    parts do not add up to the whole.

        >>> from t2tbuild import build_model, load_spec
        >>> measure_cost(build_model(load_spec("t2t_vit_7", ["model.image_size=64"]).model)).trainable_params
        4255694
    """
    analysis = _analyse(model, input_size or _own_input_size(model))
    strange = {name: count for name, count in analysis.unsupported_ops().items() if name not in FREE}
    if strange:
        raise CostError(f"fvcore cannot count {', '.join(sorted(strange))}; the total would be too low")
    by_module: Counter[str] = analysis.by_module()
    params = _params(model)
    parts = tuple(
        PartCost(
            name=row.name,
            grid=row.grid,
            tokens=row.tokens,
            channels=row.channels,
            params=sum(count for name, count in params.items() if _belongs(name, row)),
            macs=sum(by_module[module] for module in row.modules),
        )
        for row in (model.parts if isinstance(model, T2TViT) else _children(model))
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


def count_model(model: AnyModel) -> Cost:
    """Build a model and count it; a large one on the meta device, which needs neither its memory nor its time.

    Convolutions cannot be traced there, so that only models with a t2t tokenizer can.
    """
    large = False
    if isinstance(model, ModelSpec) and isinstance(model.tokenizer, T2TTokenizer):
        predicted = predict_cost(model)
        large = predicted.macs > LARGE_MACS or predicted.params > LARGE_PARAMS
    with torch.device("meta" if large else "cpu"):
        return measure_cost(build_model(model), (model.in_chans, *model.image))


def _own_input_size(model: nn.Module) -> tuple[int, int, int]:
    if isinstance(model, T2TViT):
        return model.input_size
    size: tuple[int, int, int] = model.pretrained_cfg["input_size"]  # type: ignore[index, assignment]
    return size


def _params(model: nn.Module) -> dict[str, int]:
    """Sizes of all parameters. Our frozen tables count wherever they live: timm wants them as buffers."""
    tables = model.named_buffers() if isinstance(model, T2TViT) else ()
    return {name: tensor.numel() for name, tensor in (*model.named_parameters(), *tables)}


def _children(model: nn.Module) -> list[Part]:
    """The parts of a model that is not ours: its children, and the parameters that are its own."""
    own = tuple(name for name, _ in model.named_parameters(recurse=False))
    named = [Part(name, (name,), None, None, None) for name, _ in model.named_children()]
    return [*([Part(", ".join(own), own, None, None, None)] if own else []), *named]


def _belongs(parameter: str, part: Part) -> bool:
    return any(parameter == module or parameter.startswith(f"{module}.") for module in part.modules)


def _analyse(model: nn.Module, input_size: tuple[int, int, int]) -> FlopCountAnalysis:
    image = torch.zeros(1, *input_size, device=next(model.parameters()).device)
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
