"""Training: a spec and a seed in, a run directory out. The package is also the function `train` itself."""

from typing import TYPE_CHECKING

from t2tbuild._callable import make_callable
from t2tbuild._lazy import lazy_names

if TYPE_CHECKING:
    from t2tbuild.train.reports import EpochReport, Remark, StepReport, TrainResult
    from t2tbuild.train.run import train

__all__ = ["EpochReport", "Remark", "StepReport", "TrainResult", "train"]

__getattr__ = lazy_names(
    __name__, {name: f"t2tbuild.train.{'run' if name == 'train' else 'reports'}" for name in __all__}
)

make_callable(__name__)
