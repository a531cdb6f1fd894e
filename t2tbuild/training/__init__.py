"""Training: from a spec and a seed to a run directory."""

from typing import TYPE_CHECKING

from t2tbuild._lazy import lazy_names

if TYPE_CHECKING:
    from t2tbuild.training.reports import EpochReport, Notice, StepReport, TrainResult
    from t2tbuild.training.run import train

__all__ = ["EpochReport", "Notice", "StepReport", "TrainResult", "train"]

__getattr__ = lazy_names(
    __name__, {name: f"t2tbuild.training.{'run' if name == 'train' else 'reports'}" for name in __all__}
)
