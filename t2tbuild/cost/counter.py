"""The reference counter: fvcore counts the operations of the built module."""

import logging
import math
import warnings
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

with warnings.catch_warnings():  # fvcore still decorates with torch.jit.script, which is deprecated
    warnings.simplefilter("ignore", FutureWarning)
    from fvcore.nn import FlopCountAnalysis
    from fvcore.nn.jit_handles import conv_flop_count, einsum_flop_jit

from t2tbuild.build import build_model
from t2tbuild.cost.model import Cost, total_cost, with_rows
from t2tbuild.cost.predict import try_predict_cost
from t2tbuild.errors import CostError
from t2tbuild.layout import Part
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec.extension.registry import has_extensions
from t2tbuild.spec.model import AnyModel, ModelSpec
from t2tbuild.spec.tokenizer import T2TTokenizer
from t2tbuild.symbolic.leaf import PRODUCTS, Counted, Leaf, PartCost

# Above these, the meta device is faster despite its start-up of five seconds.
LARGE_MACS, LARGE_PARAMS = 20 * 10**9, 200 * 10**6

_FREE = {
    "element-wise": """
        add add_ addcmul ceil clamp_min cos div div_ dropout dropout_ exp feature_dropout gelu hardsigmoid hardswish
        hardswish_ hardtanh hardtanh_ leaky_relu leaky_relu_ mul mul_ neg pow rsqrt rsub sigmoid silu silu_ sin softmax
        sqrt square sub tanh""",
    "sums and maxima": "amax col2im cumsum linalg_vector_norm mean sum",
    "pooling": "adaptive_max_pool2d avg_pool1d avg_pool2d max_pool2d",
    "moving": "expand_as eye im2col meshgrid pad repeat repeat_interleave reshape_as tile unflatten unfold",
}
FREE = frozenset(f"aten::{name}" for names in _FREE.values() for name in names.split())
"""Operators that cost nothing by our convention, besides those that fvcore ignores itself."""


def measure_cost(model: nn.Module, input_size: tuple[int, int, int] | None = None, depth: int = 1) -> Cost:
    """Count the cost of a model from `build_model` with fvcore, in eval mode, on one image.

    Args:
        model: One of our models or a timm model.
        input_size: The image's (channels, height, width); by default the model's own.
        depth: The number of levels of rows. The first level is `model.parts`, or the children of a timm model.

    Raises CostError on an operator that is neither counted nor known to be free, and if the parts do not sum to the
    total.

        >>> from t2tbuild import build_model, load_spec
        >>> measure_cost(build_model(load_spec("t2t_vit_7", ["model.image_size=64"]).model)).trainable_params
        4255694
    """
    analysis = _analyse(model, input_size or _own_input_size(model))
    _refuse_unknown_operators(model, analysis)
    by_module: Counter[str] = analysis.by_module()
    tensors = _parameters(model)
    leaves = _leaves(model, "", by_module, tensors)
    parts = (isinstance(model, T2TViT) and model.parts) or _children(model)
    cost = total_cost(_part_cost(part, leaves, depth) for part in parts)
    if cost.macs != by_module[""] or cost.params != sum(tensor.numel() for tensor in tensors.values()):
        raise CostError("the parts of the model do not sum to its total: some module belongs to no part")
    return cost


def count_model(model: AnyModel, depth: int = 1, predicted: Cost | None = None) -> Cost:
    """Build a model and count it. A large one is built on the meta device, which takes no memory and less time.

    Convolutions cannot be traced there, so this applies only to models with a t2t tokenizer and without extensions,
    which may have some. `predicted` is the model's predicted cost, if already known.
    """
    with torch.device("cpu" if is_built_for_real(model, predicted) else "meta"):
        return measure_cost(build_model(model), (model.in_chans, *model.image), depth)


def known_cost(model: AnyModel) -> Cost:
    """Return the predicted cost of a model, or fvcore's count where none is predicted."""
    return try_predict_cost(model) or count_model(model)


def is_built_for_real(model: AnyModel, predicted: Cost | None = None) -> bool:
    """Return whether `count_model` builds a model in memory instead of on the meta device."""
    if not (isinstance(model, ModelSpec) and isinstance(model.tokenizer, T2TTokenizer)) or has_extensions(model):
        return True
    cost = predicted or try_predict_cost(model)
    return cost is None or (cost.macs <= LARGE_MACS and cost.params <= LARGE_PARAMS)


def _own_input_size(model: nn.Module) -> tuple[int, int, int]:
    if isinstance(model, T2TViT):
        return model.input_size
    size: tuple[int, int, int] = model.pretrained_cfg["input_size"]  # type: ignore[index, assignment]
    return size


def _refuse_unknown_operators(model: nn.Module, analysis: FlopCountAnalysis) -> None:
    """Raise CostError on operators that are neither counted nor free, with the innermost modules that run them."""
    unknown = sorted(set(analysis.unsupported_ops()) - FREE)
    if not unknown:
        return
    runs = {name: set(analysis.unsupported_ops(name)) for name, _ in model.named_modules()}
    message = []
    for operator in unknown:
        places = [name for name, operators in runs.items() if operator in operators]
        inner = [name for name in places if not any(other != name and _is_inside(other, name) for other in places)]
        message.append(
            f"{operator} in {', '.join(name or 'the model itself' for name in inner[:3])}" + ", ..." * (len(inner) > 3)
        )
    raise CostError(f"fvcore cannot count {', '.join(message)}; the total would be too low")


def _is_inside(module: str, other: str) -> bool:
    return not other or module.startswith(f"{other}.")


def _leaves(module: nn.Module, path: str, by_module: Counter[str], tensors: Mapping[str, Tensor]) -> list[Leaf]:
    """Return the leaves of a module at a path: those of its submodules, its own parameters, and its own products.

    `tensors` are all parameters by their full names. Leaves without cost are left out.
    """
    prefix, leaves, products = f"{path}." if path else "", [], by_module[path]
    for name, child in module.named_children():
        below = _leaves(child, prefix + name, by_module, tensors)
        leaves += [leaf._replace(name=f"{name}.{leaf.name}" if leaf.name else name) for leaf in below]
        products -= by_module[prefix + name]
    names = [name for name, _ in (*module.named_parameters(recurse=False), *module.named_buffers(recurse=False))]
    own = [_parameter(name, tensors[prefix + name]) for name in names if prefix + name in tensors]
    if next(module.children(), None) is None:
        own = [Leaf("", products, sum(one.trained for one in own), sum(one.frozen for one in own))]
    elif products:
        own.append(Leaf(PRODUCTS, products, 0))
    return [*leaves, *(leaf for leaf in own if any(leaf[1:]))]


def _parameter(name: str, tensor: Tensor) -> Leaf:
    size = tensor.numel()
    return Leaf(name, 0, size, 0) if tensor.requires_grad else Leaf(name, 0, 0, size)


def _parameters(model: nn.Module) -> dict[str, Tensor]:
    """Return all tensors that count as parameters: also our frozen tables, which are buffers in timm's registry."""
    tables = model.named_buffers() if isinstance(model, T2TViT) else ()
    return {**dict(model.named_parameters()), **dict(tables)}


def _part_cost(part: Part, leaves: Iterable[Leaf], depth: int) -> PartCost:
    """Return the cost of a part of a model with these leaves."""
    counts = [Counted.of(*_below(leaves, module)) for module in part.modules]
    return with_rows(PartCost.of(part, counts), part.modules, counts, depth)


def _below(leaves: Iterable[Leaf], module: str) -> Iterator[Leaf]:
    """Yield the leaves of a module or parameter, with names relative to it."""
    for leaf in leaves:
        if leaf.name == module:
            yield leaf._replace(name="")
        elif leaf.name.startswith(f"{module}."):
            yield leaf._replace(name=leaf.name.removeprefix(f"{module}."))


def _children(model: nn.Module) -> list[Part]:
    """Return the parts of a model without named ones: its children, and its own parameters."""
    own = tuple(name for name, _ in model.named_parameters(recurse=False))
    named = [Part(name, (name,)) for name, _ in model.named_children()]
    return [*([Part(", ".join(own), own)] if own else []), *named]


def _analyse(model: nn.Module, input_size: tuple[int, int, int]) -> FlopCountAnalysis:
    device = next((one.device for one in model.parameters()), torch.device("cpu"))  # a subnet's are no parameters
    image = torch.zeros(1, *input_size, device=device)
    was_training = model.training
    try:
        with _quiet(), torch.no_grad():
            analysis = FlopCountAnalysis(model.eval(), image)
            analysis.set_op_handle(**OP_HANDLES)
            analysis.unsupported_ops_warnings(False).uncalled_modules_warnings(False).total()
    finally:
        model.train(was_training)
    return analysis


def _count_attention(inputs: list[Any], _outputs: list[Any]) -> Counter[str]:
    """Count a fused attention kernel, for which fvcore has no handle. Softmax is free by our convention.

    For queries [..., N, D], keys [..., K, D] and values [..., K, V], Q K^T and A V are N K D + N K V per head.
    """
    query, key, value = (tensor.type().sizes() for tensor in inputs[:3])
    heads = 1
    for size in query[:-2]:
        heads *= size
    return Counter({"scaled_dot_product_attention": heads * query[-2] * key[-2] * (query[-1] + value[-1])})


def _count_same_convolution(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count a convolution whose padding is "same" or "valid", which is an operator of its own and never transposed."""
    image, weight, out = (tensor.type().sizes() for tensor in (*inputs[:2], outputs[0]))
    return Counter({"conv": conv_flop_count(image, weight, out)})


def _count_einsum(inputs: list[Any], outputs: list[Any]) -> Counter[str]:
    """Count an einsum of two operands with a sum: the product of the sizes of all letters. fvcore counts the others.

    fvcore parses the count from numpy's printed text, which has four digits.
    """
    equation = inputs[0].toIValue().replace(" ", "")
    terms, _, out = equation.partition("->")
    letters, operands = terms.split(","), list(inputs[1].node().inputs())
    if len(operands) != 2 or "." in equation or "->" not in equation or set("".join(letters)) <= set(out):
        return Counter({"einsum": int(einsum_flop_jit(inputs, outputs))})
    sizes: dict[str, int] = {}
    for term, operand in zip(letters, operands, strict=True):
        for letter, size in zip(term, operand.type().sizes(), strict=True):
            sizes[letter] = max(size, sizes.get(letter, 1))
    return Counter({"einsum": math.prod(sizes.values())})


OP_HANDLES: dict[str, Callable[[list[Any], list[Any]], Counter[str]]] = {
    "aten::scaled_dot_product_attention": _count_attention,
    "aten::_convolution_mode": _count_same_convolution,
    "aten::einsum": _count_einsum,
}
"""The operators that fvcore skips or rounds, each with its count: `FlopCountAnalysis(...).set_op_handle(**OP_HANDLES)`
gives our MACs of any model."""


@contextmanager
def _quiet() -> Iterator[None]:
    """Silence the tracer's warnings, which concern constants in our own shapes."""
    logger = logging.getLogger("fvcore.nn.jit_analysis")
    level = logger.level
    logger.setLevel(logging.ERROR)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            yield
    finally:
        logger.setLevel(level)
