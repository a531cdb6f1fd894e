"""What stands in for a candidate in the short trainings: itself at the proxy's image size, or its thinner twin."""

import math
from typing import Any

from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.revise import revise
from t2tbuild.spec.search import Proxy

QUARTER = 4


def is_twin(proxy: Proxy, device: str) -> bool:
    """Whether the proxy trains quarter-width twins on this type of device."""
    return proxy.width == "quarter" or (proxy.width == "auto" and device == "cpu")


def stand_in(model: ModelSpec, proxy: Proxy, device: str) -> ModelSpec:
    """The model that is trained in place of `model`.

    Its image size and classes are the proxy data's. A twin has a quarter of embed_dim and of every token_dim; depth,
    heads, MLP ratios and stages are kept. embed_dim is rounded so that the heads divide it.

    Raises InputError when the proxy's images are too small for the model's tokenizer.
    """
    size = proxy.data.image_size
    changes: dict[str, Any] = {"image_size": size, "num_classes": proxy.data.num_classes}
    if is_twin(proxy, device):
        changes |= {"name": f"{model.name[:56]}_quarter", "tokenizer": model.tokenizer.model_dump()}
        for stage in changes["tokenizer"]["stages"]:
            if "token_dim" in stage:
                stage["token_dim"] = max(1, stage["token_dim"] // QUARTER)
        backbone, heads = model.backbone, math.lcm(*model.backbone.heads)
        width = max(heads, round(backbone.embed_dim / QUARTER / heads) * heads)
        num_heads = backbone.heads[0] if len(set(backbone.heads)) == 1 else backbone.heads
        changes["backbone"] = backbone.model_dump() | {"embed_dim": width, "num_heads": num_heads, "head_dim": None}
    return revise(model, changes, f"trained at the proxy's {size} pixels")


def settle(proxy: Proxy, device: str) -> Proxy:
    """The proxy with `width: auto` settled for a type of device, so that a study never mixes twins and candidates."""
    return proxy.model_copy(update={"width": "quarter" if is_twin(proxy, device) else "full"})


def describe(proxy: Proxy, device: str) -> str:
    """What was trained, in words, for every place that shows a proxy accuracy."""
    what = "quarter-width twins of the candidates" if is_twin(proxy, device) else "the candidates themselves"
    pixels = proxy.data.image_size
    return f"{what}, up to {proxy.rungs[-1]} steps of {proxy.batch_size} on {proxy.data.kind} at {pixels} pixels"
