"""Training: from a spec and a seed to a run directory."""

from typing import TYPE_CHECKING

from t2tbuild._lazy import lazy_names

if TYPE_CHECKING:
    from t2tbuild.training.data.python_datasets import PythonDatasets
    from t2tbuild.training.reports import EpochReport, Notice, StepReport, TrainResult
    from t2tbuild.training.run import train

__all__ = ["EpochReport", "Notice", "PythonDatasets", "StepReport", "TrainResult", "train"]

_MODULES = {"PythonDatasets": "t2tbuild.training.data.python_datasets", "train": "t2tbuild.training.run"}

__getattr__ = lazy_names(__name__, {name: _MODULES.get(name, "t2tbuild.training.reports") for name in __all__})
