"""What stands in for a candidate in the short trainings: itself at the proxy's image size, or its thinner twin."""

import math
from typing import Any, assert_never

from t2tbuild.spec.backbone import Backbone, DenseBackbone, PlainBackbone
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.with_changes import with_changes

QUARTER = 4


def is_twin(proxy: Proxy, device: str) -> bool:
    """Whether the proxy trains quarter-width twins on this type of device."""
    return proxy.width == "quarter" or (proxy.width == "auto" and device == "cpu")


def stand_in(model: ModelSpec, proxy: Proxy, device: str) -> ModelSpec:
    """The model that is trained in place of `model`.

    Its image size and classes are the proxy data's. A twin has a quarter of embed_dim, of a dense backbone's
    growth_rate and of every token_dim; depth, heads, MLP ratios and stages are kept. embed_dim is rounded so that the
    heads divide it; a dense block whose width they do not divide has the next smaller number of heads that does.

    Raises FieldError when the proxy's images are too small for the model's tokenizer.
    """
    height, width = proxy.side(model)
    size = height if height == width else (height, width)
    changes: dict[str, Any] = {"image_size": size, "num_classes": proxy.data.num_classes}
    if is_twin(proxy, device):
        changes |= {"name": f"{model.name[:56]}_quarter", "tokenizer": model.tokenizer.model_dump()}
        for stage in changes["tokenizer"].get("stages", ()):
            if "token_dim" in stage:
                stage["token_dim"] = max(1, stage["token_dim"] // QUARTER)
        changes["backbone"] = _quarter(model.backbone)
    blame = ("search", "proxy", "data", "image_size"), "write a larger search.proxy.data.image_size"
    pixels = height if height == width else f"{height} x {width}"
    return with_changes(model, changes, f"trained at the proxy's {pixels} pixels", blame)


def _quarter(backbone: Backbone) -> dict[str, Any]:
    """The backbone's fields with a quarter of its width."""
    changes: dict[str, Any] = {"head_dim": None}
    even = 2 if backbone.ghost else 1
    match backbone:
        case PlainBackbone(heads=heads):
            every = math.lcm(*heads, even)
            changes["embed_dim"] = max(every, round(backbone.embed_dim / QUARTER / every) * every)
            changes["num_heads"] = heads[0] if len(set(heads)) == 1 else heads
        case DenseBackbone():
            unit = 2 ** min(4, len(backbone.blocks))  # keeps widths even through the transitions
            changes["embed_dim"] = max(unit, round(backbone.embed_dim / QUARTER / unit) * unit)
            changes["growth_rate"] = max(unit, round(backbone.growth_rate / QUARTER / unit) * unit)
            widths = backbone.model_copy(update=changes).widths
            changes["num_heads"] = tuple(
                next(heads for heads in range(wanted, 0, -1) if width % heads == 0)
                for wanted, width in zip(backbone.heads, widths, strict=True)
            )
        case _:
            assert_never(backbone)
    thin = backbone.model_copy(update=changes)
    if thin.squeeze_excite:
        changes["squeeze_excite"] = {"reduction": min(thin.squeeze_excite.reduction, *thin.widths)}
    return backbone.model_dump() | changes


def settle(proxy: Proxy, device: str) -> Proxy:
    """The proxy with `width: auto` settled for a type of device, so that a study never mixes twins and candidates."""
    return proxy.model_copy(update={"width": "quarter" if is_twin(proxy, device) else "full"})


def describe(proxy: Proxy, device: str) -> str:
    """What was trained, in words, for every place that shows a proxy accuracy."""
    what = "quarter-width twins of the candidates" if is_twin(proxy, device) else "the candidates themselves"
    size = proxy.data.image_size
    pixels = "their own" if size is None else size if isinstance(size, int) else " x ".join(map(str, size))
    return f"{what}, up to {proxy.rungs[-1]} steps of {proxy.batch_size} on {proxy.data.kind} at {pixels} pixels"
