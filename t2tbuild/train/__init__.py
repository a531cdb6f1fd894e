"""Training: a spec and a seed in, a run directory out. The package is also the function `train` itself."""

from t2tbuild._callable import make_callable
from t2tbuild.train.run import EpochReport, TrainResult, train

__all__ = ["EpochReport", "TrainResult", "train"]

make_callable(__name__, train)
