"""The shipped specs of our own models, and small versions of them."""

from t2tbuild import load_spec
from t2tbuild.spec import ModelSpec, catalog

OURS = [name for name in catalog.names("specs") if isinstance(load_spec(name).model, ModelSpec)]


def shallow(name: str) -> ModelSpec:
    """Return a shipped model with few blocks, at 64 pixels, with ten classes."""
    model = load_spec(name).model
    assert isinstance(model, ModelSpec)
    fewer_blocks = "model.backbone.blocks=[1, 1, 1, 1]" if model.backbone.kind == "dense" else "model.backbone.depth=2"
    return load_spec(name, [fewer_blocks, "model.image_size=64", "model.num_classes=10"]).model  # type: ignore[return-value]
