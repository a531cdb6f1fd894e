"""The spec language. This package does not import torch, and imports pydantic only when a spec is loaded."""

from typing import TYPE_CHECKING

from t2tbuild._lazy import lazy_names

if TYPE_CHECKING:
    from t2tbuild.spec.budget import Budget
    from t2tbuild.spec.load import load_search_spec, load_spec
    from t2tbuild.spec.model import ModelSpec
    from t2tbuild.spec.root import PaperRow, SearchSpec, Spec
    from t2tbuild.spec.train import TrainSpec
    from t2tbuild.spec.write import write_spec

__all__ = [
    "Budget",
    "ModelSpec",
    "PaperRow",
    "SearchSpec",
    "Spec",
    "TrainSpec",
    "load_search_spec",
    "load_spec",
    "write_spec",
]

__getattr__ = lazy_names(
    __name__,
    {
        "Budget": "t2tbuild.spec.budget",
        "ModelSpec": "t2tbuild.spec.model",
        "PaperRow": "t2tbuild.spec.root",
        "SearchSpec": "t2tbuild.spec.root",
        "Spec": "t2tbuild.spec.root",
        "TrainSpec": "t2tbuild.spec.train",
        "load_search_spec": "t2tbuild.spec.load",
        "load_spec": "t2tbuild.spec.load",
        "write_spec": "t2tbuild.spec.write",
    },
)
