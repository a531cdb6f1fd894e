"""Declarative architecture search for Tokens-to-Token vision transformers.

Loads YAML specs, counts and builds their models, trains them and searches for better ones:

    >>> import t2tbuild
    >>> spec = t2tbuild.load_spec("t2t_vit_14")
    >>> t2tbuild.predict_cost(spec.model).macs
    4800254784
    >>> model = t2tbuild.build_model(spec.model)
    >>> t2tbuild.measure_cost(model).params
    21545550

Importing this package imports neither torch nor timm: each public name is imported on first use.
"""

from typing import TYPE_CHECKING

from t2tbuild._lazy import lazy_names
from t2tbuild._version import __version__

if TYPE_CHECKING:
    from t2tbuild.accuracy import Accuracy, predict_accuracy
    from t2tbuild.build import build_model
    from t2tbuild.cost import Cost, PartCost, measure_cost, predict_cost
    from t2tbuild.errors import T2TBuildError
    from t2tbuild.nas import SearchResult, search
    from t2tbuild.spec import ModelSpec, SearchSpec, Spec, load_search_spec, load_spec, write_spec
    from t2tbuild.training import TrainResult, train
    from t2tbuild.training.prediction import Prediction, Predictions, predict
    from t2tbuild.weights import load_weights

__all__ = [
    "Accuracy",
    "Cost",
    "ModelSpec",
    "PartCost",
    "Prediction",
    "Predictions",
    "SearchResult",
    "SearchSpec",
    "Spec",
    "T2TBuildError",
    "TrainResult",
    "__version__",
    "build_model",
    "load_search_spec",
    "load_spec",
    "load_weights",
    "measure_cost",
    "predict",
    "predict_accuracy",
    "predict_cost",
    "search",
    "train",
    "write_spec",
]

_MODULES = {
    "Accuracy": "t2tbuild.accuracy",
    "Cost": "t2tbuild.cost",
    "ModelSpec": "t2tbuild.spec",
    "PartCost": "t2tbuild.cost",
    "Prediction": "t2tbuild.training.prediction",
    "Predictions": "t2tbuild.training.prediction",
    "SearchResult": "t2tbuild.nas",
    "SearchSpec": "t2tbuild.spec",
    "Spec": "t2tbuild.spec",
    "T2TBuildError": "t2tbuild.errors",
    "TrainResult": "t2tbuild.training",
    "build_model": "t2tbuild.build",
    "load_search_spec": "t2tbuild.spec",
    "load_spec": "t2tbuild.spec",
    "load_weights": "t2tbuild.weights",
    "measure_cost": "t2tbuild.cost",
    "predict": "t2tbuild.training.prediction",
    "predict_accuracy": "t2tbuild.accuracy",
    "predict_cost": "t2tbuild.cost",
    "search": "t2tbuild.nas",
    "train": "t2tbuild.training",
    "write_spec": "t2tbuild.spec",
}


__getattr__ = lazy_names(__name__, _MODULES)


def __dir__() -> list[str]:
    return __all__
