"""What a model costs: by closed form, torch-free and instant, or counted by fvcore on the built module."""

from typing import TYPE_CHECKING, Any

from t2tbuild.cost.closed_form import predict_cost
from t2tbuild.cost.model import CONVENTION, Cost, PartCost

if TYPE_CHECKING:
    from t2tbuild.cost.counter import measure_cost

__all__ = ["CONVENTION", "Cost", "PartCost", "measure_cost", "predict_cost"]


def __getattr__(name: str) -> Any:
    if name == "measure_cost":  # the counter imports torch; the closed form must not
        from t2tbuild.cost.counter import measure_cost

        return measure_cost
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
