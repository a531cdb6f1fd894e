"""The key of a model: equal for two models that differ in nothing but their names. Torch-free."""

import hashlib

from t2tbuild.spec.extension.registry import is_extension
from t2tbuild.spec.model import ModelSpec


def canonical(model: ModelSpec) -> str:
    """Return a text that is equal for two models exactly when they differ in nothing but their names."""
    same_heads = {"num_heads": list(model.backbone.heads), "head_dim": None, "mlp_ratio": list(model.backbone.mlp_dims)}
    backbone = model.backbone.model_dump(mode="json") | same_heads
    windows = [(window.model_dump(mode="json", exclude={"padding"}), window.pad) for window in model.tokenizer.windows]
    # an extension's tokenizer may have fields of its own
    own = (model.tokenizer.model_dump(mode="json"),) if is_extension(model.tokenizer) else ()
    tokenizer = (model.tokenizer.kind, windows, *own)
    return repr(
        (model.image, model.in_chans, model.num_classes, model.distillation_token, tokenizer, sorted(backbone.items()))
    )


def key_of(model: ModelSpec) -> str:
    """Return a hash that is equal for two models exactly when they differ in nothing but their names."""
    return hashlib.sha256(canonical(model).encode()).hexdigest()[:16]
