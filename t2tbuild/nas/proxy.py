"""The proxy model of a candidate: the candidate at the proxy's image size, at full or at a quarter of its width.

Torch-free.
"""

import math
from collections.abc import Iterator
from contextlib import contextmanager
from functools import cache
from typing import Any

from t2tbuild.errors import FieldError
from t2tbuild.spec.backbone import Backbone, DenseBackbone, PlainBackbone
from t2tbuild.spec.data import AnyData, InMemory
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.proxy import Proxy
from t2tbuild.spec.root import SearchSpec
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.training.dataset_paths import count_classes

QUARTER = 4

DEMO_DATA = ("digits", "fake")
"""Kinds of bundled data for demonstrations. All others are the user's own."""


def with_proxy_data(spec: SearchSpec, data: AnyData) -> SearchSpec:
    """Return a search spec whose proxy trains on other data."""
    proxy = spec.search.proxy.model_copy(update={"data": data})
    return spec.model_copy(update={"search": spec.search.model_copy(update={"proxy": proxy})})


def has_own_data(proxy: Proxy) -> bool:
    """Whether the proxy trains on data of the user's own, on which the winner is then trained too."""
    return proxy.data.kind not in DEMO_DATA


@contextmanager
def own_data_errors() -> Iterator[None]:
    """Within this context, errors of fields of train.data are errors of search.proxy.data."""
    try:
        yield
    except FieldError as error:
        if error.path[:2] != ("train", "data"):
            raise
        raise FieldError(("search", "proxy", *error.path[1:]), error.rule, error.message, error.hint) from None


@cache  # it is asked for each candidate
def classes_of(data: AnyData) -> int:
    """Return the number of classes of a proxy's data. Raises FieldError where the files to count are missing."""
    if isinstance(data, InMemory):
        return data.num_classes
    with own_data_errors():
        return count_classes(data)


def is_narrow(proxy: Proxy, device: str) -> bool:
    """Whether the proxy trains quarter-width models on this type of device."""
    return proxy.width == "quarter" or (proxy.width == "auto" and device == "cpu")


def make_proxy_model(model: ModelSpec, proxy: Proxy, device: str) -> ModelSpec:
    """Return the model that is trained in place of `model`.

    It has the image size and classes of the proxy's data. A narrow one has a quarter of embed_dim, of every token_dim
    and of a dense backbone's growth_rate; depth, heads, MLP ratios and stages stay. embed_dim is rounded to a multiple
    of the heads. A dense block whose width is not a multiple of its heads gets the next smaller number of heads that
    divides it.

    Raises FieldError when the proxy's images are too small for the model's tokenizer.
    """
    height, width = proxy.image_shape(model)
    size = height if height == width else (height, width)
    changes: dict[str, Any] = {"image_size": size, "num_classes": classes_of(proxy.data)}
    if is_narrow(proxy, device):
        changes |= {"name": f"{model.name[:56]}_quarter", "tokenizer": model.tokenizer.model_dump()}
        for stage in changes["tokenizer"].get("stages", ()):
            if "token_dim" in stage:
                stage["token_dim"] = max(1, stage["token_dim"] // QUARTER)
        changes["backbone"] = _quarter_width(model.backbone)
    field_hint = ("search", "proxy", "data", "image_size"), "write a larger search.proxy.data.image_size"
    pixels = height if height == width else f"{height} x {width}"
    return with_changes(model, changes, f"trained at the proxy's {pixels} pixels", field_hint)


def _quarter_width(backbone: Backbone) -> dict[str, Any]:
    """Return the fields of a backbone of a quarter of the width."""
    changes: dict[str, Any] = {"head_dim": None}
    even = 2 if backbone.ghost else 1
    match backbone:
        case PlainBackbone(heads=heads):
            multiple = math.lcm(*heads, even)
            changes["embed_dim"] = max(multiple, round(backbone.embed_dim / QUARTER / multiple) * multiple)
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
        case _:  # of an extension
            message = f"the width of the backbone {backbone.kind} of an extension cannot be changed"
            raise FieldError(("search", "proxy", "width"), "width", message, "write width: full")
    narrow = backbone.model_copy(update=changes)
    if narrow.squeeze_excite:
        changes["squeeze_excite"] = {"reduction": min(narrow.squeeze_excite.reduction, *narrow.widths)}
    return backbone.model_dump() | changes


def resolve_width(proxy: Proxy, device: str) -> Proxy:
    """Return the proxy with `width: auto` resolved for a type of device, so that a study has one width only."""
    return proxy.model_copy(update={"width": "quarter" if is_narrow(proxy, device) else "full"})


def describe_training(proxy: Proxy, device: str) -> str:
    """Return a description of the proxy training, shown beside every proxy accuracy."""
    what = "the candidates at a quarter of their width" if is_narrow(proxy, device) else "the candidates at full width"
    size = proxy.data.image_size
    pixels = "their own" if size is None else size if isinstance(size, int) else " x ".join(map(str, size))
    images = {"folder": "a folder of images", "csv": "a CSV file of images"}.get(proxy.data.kind, proxy.data.kind)
    return f"{what}, up to {proxy.rungs[-1]} steps of {proxy.batch_size} on {images} at {pixels} pixels"
