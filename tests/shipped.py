"""The shipped specs of our own models, and small versions of them."""

from t2tbuild import load_spec, predict_cost
from t2tbuild.spec import ModelSpec, catalog

OURS = [name for name in catalog.names("specs") if isinstance(load_spec(name).model, ModelSpec)]


def _structure(name: str) -> str:
    """Return a text that is equal for models that differ in their sizes only."""
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    sizes = {"depth", "blocks", "embed_dim", "growth_rate", "num_heads", "head_dim", "mlp_ratio", "drop_path"}
    backbone = model.backbone.model_dump(exclude=sizes)
    attentions = [getattr(window, "attention", None) for window in model.tokenizer.windows]
    kinds = [None if one is None else one.kind for one in attentions]
    return str((model.tokenizer.kind, kinds, backbone, model.distillation_token))


def _size(name: str) -> int:
    return predict_cost(load_spec(name).model).params  # type: ignore[arg-type]


DISTINCT = sorted({_structure(name): name for name in sorted(OURS, key=_size, reverse=True)}.values())
"""The smallest model of each structure: deeper, wider and larger versions of these are left out."""

DEEPER = ("resnet101", "resnet152", "densenet201")
OTHERS = [name for name in catalog.names("specs") if name not in (*OURS, *DEEPER)]
"""The shipped models of timm, without the deep ones and deeper versions of others."""


def shallow(name: str) -> ModelSpec:
    """Return a shipped model with few blocks, at 64 pixels, with ten classes."""
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    fewer_blocks = "model.backbone.blocks=[1, 1, 1, 1]" if model.backbone.kind == "dense" else "model.backbone.depth=2"
    return load_spec(name, [fewer_blocks, "model.image_size=64", "model.num_classes=10"]).model  # type: ignore[return-value]
