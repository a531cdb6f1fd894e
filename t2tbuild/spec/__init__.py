"""What a person may write. Nothing in this room imports torch."""

from t2tbuild.spec.load import load_search_spec, load_spec, write_spec
from t2tbuild.spec.model import Grid, ModelSpec
from t2tbuild.spec.search import Budget
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.tree import PaperRow, SearchSpec, Spec

__all__ = [
    "Budget",
    "Grid",
    "ModelSpec",
    "PaperRow",
    "SearchSpec",
    "Spec",
    "TrainSpec",
    "load_search_spec",
    "load_spec",
    "write_spec",
]
