"""The cost of a model: predicted in closed form without torch, or counted by fvcore on the built module."""

from typing import TYPE_CHECKING

from t2tbuild._lazy import lazy_names
from t2tbuild.cost.model import CONVENTION, Cost
from t2tbuild.cost.predict import predict_cost
from t2tbuild.symbolic.leaf import PartCost

if TYPE_CHECKING:
    from t2tbuild.cost.counter import OP_HANDLES, measure_cost

__all__ = ["CONVENTION", "OP_HANDLES", "Cost", "PartCost", "measure_cost", "predict_cost"]


__getattr__ = lazy_names(
    __name__, dict.fromkeys(("OP_HANDLES", "measure_cost"), "t2tbuild.cost.counter")
)  # imported lazily because it imports torch
