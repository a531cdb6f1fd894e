"""Training: a spec and a seed in, a run directory out. The package is also the function `train` itself."""

from typing import TYPE_CHECKING

from t2tbuild._callable import make_callable
from t2tbuild._lazy import lazy_names

if TYPE_CHECKING:
    from t2tbuild.train.run import EpochReport, StepReport, TrainResult, train

__all__ = ["EpochReport", "StepReport", "TrainResult", "train"]

__getattr__ = lazy_names(__name__, dict.fromkeys(__all__, "t2tbuild.train.run"))

make_callable(__name__)
