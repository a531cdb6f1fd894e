"""Trained weights: load checkpoints of the authors, timm, mmpretrain and safetensors; export to the usual formats."""

from typing import TYPE_CHECKING

from t2tbuild._lazy import lazy_names

if TYPE_CHECKING:
    from t2tbuild.weights.export import export_model
    from t2tbuild.weights.load import load_weights

__all__ = ["export_model", "load_weights"]

__getattr__ = lazy_names(__name__, {"export_model": "t2tbuild.weights.export", "load_weights": "t2tbuild.weights.load"})
