"""Register our models with timm: after `import t2tbuild.timm`, `timm.create_model("t2t_vit_14")` builds one.

Each shipped spec is registered under its name. `t2t_vit_spec` builds any other model of the spec language: its argument
`spec` takes the fields of a spec's model section, and exported folders use it. The other arguments are those of timm's
vision_transformer: num_classes, in_chans, img_size, drop_rate, drop_path_rate, global_pool, device, dtype,
features_only, out_indices. `pretrained=True` loads released weights (`t2tbuild download --list`); a tag chooses among
several, as in t2t_vit_14.cifar10.

    >>> import timm, t2tbuild.timm
    >>> timm.create_model("t2t_vit_7", num_classes=10, img_size=64).num_features
    256
"""

import functools
import logging
import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import torch
from pydantic import ValidationError
from timm.data.constants import IMAGENET_DEFAULT_MEAN, IMAGENET_DEFAULT_STD
from timm.models import build_model_with_cfg, generate_default_cfgs, register_model
from torch import Tensor, nn

from t2tbuild.build import build_model
from t2tbuild.errors import InputError
from t2tbuild.modules.position import fit_position
from t2tbuild.modules.vit import T2TViT
from t2tbuild.spec import ModelSpec, catalog, load_spec
from t2tbuild.spec.tokenizer import (
    ConvTokenizer,
    PerformerAttention,
    Stage,
    T2TTokenizer,
    Tokenizer,
    TransformerAttention,
)
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.weights.load import rename_state
from t2tbuild.weights.read import unwrap_state
from t2tbuild.weights.released import Released, fetch_released, released_weights

SOURCES = ("url", "file", "state_dict", "hf_hub_id")  # keys of timm's pretrained_cfg that name weights
ANY = "t2t_vit_spec"  # builds the model of its argument `spec`; without one, t2t_vit_14


@functools.cache
def _specs() -> dict[str, ModelSpec]:
    """Return the spec of each registered name."""
    shipped = {name: load_spec(name).model for name in catalog.names("specs")}
    ours = {name: model for name, model in shipped.items() if isinstance(model, ModelSpec)}
    return ours | {ANY: ours["t2t_vit_14"]}


def model_configs() -> Mapping[str, Any]:
    """Return timm's `default_cfgs`: the configuration of each of our models, and of their released weights, by name."""
    ours = {name: _config(model) for name, model in _specs().items()}
    released = {name: ours[one.spec] | _source_config(one) for name, one in released_weights().items()}
    configs: Mapping[str, Any] = generate_default_cfgs({**ours, **released})
    return configs


def _source_config(released: Released) -> dict[str, Any]:
    """Return what differs in timm's pretrained_cfg of a model with released weights."""
    return {
        "url": released.url,
        "num_classes": released.num_classes,
        "mean": released.mean,
        "std": released.std,
        "crop_pct": released.crop,
        "license": released.licence.lower(),
    }


def _config(model: ModelSpec) -> dict[str, Any]:
    """Return timm's pretrained_cfg of a model; crop and interpolation are the paper's."""
    return {
        "num_classes": model.num_classes,
        "input_size": (model.in_chans, *model.image),
        "fixed_input_size": True,
        "pool_size": None,
        "crop_pct": 0.9,
        "interpolation": "bicubic",
        "mean": IMAGENET_DEFAULT_MEAN,
        "std": IMAGENET_DEFAULT_STD,
        "first_conv": f"tokens_to_token.{_first_layer(model.tokenizer)}",
        "classifier": ("head", "head_dist") if model.distillation_token else "head",
        "license": "apache-2.0",
    }


def _first_layer(tokenizer: Tokenizer) -> str:
    """Return the name of the first layer with weights, which depends on the image's channels."""
    match tokenizer:
        case T2TTokenizer(stages=[Stage(attention=PerformerAttention()), *_]):
            return "attention1.kqv"
        case T2TTokenizer(stages=[Stage(attention=TransformerAttention()), *_]):
            return "attention1.attn.qkv"
        case ConvTokenizer(stages=[_, _, *_]):
            return "soft_split0"
        case _:
            return "project"


def _build(
    spec: ModelSpec,
    *,
    num_classes: int = 1000,
    in_chans: int = 3,
    img_size: int | tuple[int, int] | None = None,
    global_pool: str = "token",
    drop_rate: float = 0.0,
    drop_path_rate: float | None = None,
    device: torch.device | str | None = None,
    dtype: torch.dtype | None = None,
) -> T2TViT:
    """Build the model of a spec; timm's arguments override the spec's fields."""
    changes: dict[str, Any] = {"num_classes": max(1, num_classes), "in_chans": in_chans}
    if img_size is not None:
        changes["image_size"] = img_size if isinstance(img_size, int) else tuple(img_size)
    if drop_path_rate is not None:
        changes["backbone"] = spec.backbone.model_dump() | {"drop_path": drop_path_rate}
    with torch.device(device if device is not None else torch.get_default_device()):
        model = build_model(with_changes(spec, changes, f"built with {changes}"))
    if num_classes == 0 or global_pool != "token":
        model.reset_classifier(num_classes, global_pool)
    model.head_drop.p = drop_rate
    for module in model.modules():
        _tables_to_buffers(module)
    return model if dtype is None else model.to(dtype)


def _tables_to_buffers(module: nn.Module) -> None:
    """Convert frozen parameters to buffers of the same name, because timm expects all parameters to be trained."""
    for name, parameter in list(module.named_parameters(recurse=False)):
        if not parameter.requires_grad:
            delattr(module, name)
            module.register_buffer(name, parameter.data)


def _fit(state: dict[str, Tensor], model: T2TViT) -> dict[str, Tensor]:
    """Unwrap and rename the weights of a checkpoint, and interpolate the position embedding for another image size.

    timm hands over released files as they are. Raises InputError if the first layer has another number of input
    channels and is not a convolution, which timm adapts itself.
    """
    state = rename_state(unwrap_state(state, "these weights"))
    config: dict[str, Any] = model.pretrained_cfg  # type: ignore[assignment]
    first = f"{config['first_conv']}.weight"
    own, stored = model.state_dict()[first], state.get(first)
    if stored is not None and own.ndim == 2 and own.shape != stored.shape:
        shapes = f"{first} has {list(stored.shape)}, the model has {list(own.shape)}"
        raise InputError(f"these weights are for images of another number of channels: {shapes}; leave out in_chans")
    table, prefix = state.get("pos_embed"), 1 + ("dist_token" in state)
    if table is None or prefix != model.num_prefix_tokens:
        return state
    grid = model.tokens_to_token.grid(*config["input_size"][1:])  # of the image size that the weights are for
    stored_grid = grid if math.prod(grid) == table.shape[1] - prefix else None
    try:
        return state | {"pos_embed": fit_position(table, model.grid, stored_grid, prefix=prefix)}
    except ValueError as error:
        raise InputError(f"these weights: {error}") from None


def _create(variant: str, pretrained: bool = False, spec: Mapping[str, Any] | None = None, **kwargs: Any) -> nn.Module:
    """Build the model of a registered name; timm calls this.

    `extensions` in `spec` has the names of files for the message only: nothing is imported.
    """
    fields = dict(spec or {})
    extensions = fields.pop("extensions", None)
    try:
        model_spec = _specs()[variant] if spec is None else ModelSpec.model_validate(fields)
    except ValidationError as error:
        hint = f"; it uses extensions {extensions!r:.200}: load a spec that names them first" if extensions else ""
        raise InputError(f"spec: {error.errors()[0]['loc']}: {error.errors()[0]['msg']}{hint}") from None
    if spec is not None and not kwargs.get("pretrained_cfg"):  # an exported folder has its own configuration
        kwargs["pretrained_cfg_overlay"] = _config(model_spec) | (kwargs.get("pretrained_cfg_overlay") or {})
    if pretrained and spec is None:
        kwargs = _with_released_file(variant, kwargs)
    built: nn.Module = build_model_with_cfg(
        partial(_build, model_spec),
        variant,
        pretrained,
        feature_cfg={"out_indices": 3, "feature_cls": "getter"},
        pretrained_filter_fn=_fit,
        **kwargs,
    )
    return built


def _with_released_file(variant: str, kwargs: dict[str, Any]) -> dict[str, Any]:
    """Add the cached file of released weights, downloaded if need be, unless the caller names other weights.

    timm's own download would neither continue an interrupted one nor check the file.
    """
    tag, overlay = kwargs.get("pretrained_cfg") or "", kwargs.get("pretrained_cfg_overlay") or {}
    if not isinstance(tag, str) or any(overlay.get(source) for source in SOURCES):
        return kwargs
    name = f"{variant}.{tag}" if tag else variant
    if name not in released_weights():
        return kwargs
    released, is_new = released_weights()[name], not released_weights()[name].is_cached
    file = fetch_released(name)
    if is_new:
        logging.getLogger(__name__).warning("%s: %s", name, released.notice)  # shown unless the program says otherwise
    return kwargs | {"pretrained_cfg_overlay": {**overlay, "file": str(file)}}


def register(module: str) -> None:
    """Register all models with timm as members of the module of this name, whose `default_cfgs` timm reads."""
    for name in _specs():
        create = partial(_create, name)
        create.__name__, create.__module__ = name, module  # type: ignore[attr-defined]
        register_model(create)
