"""Check whether a model is within a budget, by the closed form. Torch-free."""

from collections.abc import Mapping

from t2tbuild.cost.memory import predict_memory
from t2tbuild.cost.predict import try_predict_cost
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.model import ModelSpec

Measures = Mapping[str, float]
"""Costs of a model by the names of the budget's fields."""


def measure(model: ModelSpec, budget: Budget) -> dict[str, float]:
    """Return MACs and parameters of a model, and its activation memory where the budget limits it.

    A model with a node without a symbolic forward has no predicted costs: it is within every budget here, and is
    counted after it is built.
    """
    cost = try_predict_cost(model)
    if cost is None:
        return {}
    found: dict[str, float] = {"macs": cost.macs, "params": cost.params}
    if budget.activations is not None:
        found["activations"] = predict_memory(model).activations
    return found


def excess(measures: Measures, budget: Budget) -> dict[str, float]:
    """Return how far each limited measure is outside its bounds; zero or less means within.

    Limits without a measure are left out: latency, for example, is known only after a measurement.
    """
    found = {name: bounds.excess(measures[name]) for name, bounds in budget.limits.items() if name in measures}
    if budget.latency is not None and "latency" in measures:
        found["latency"] = measures["latency"] - budget.latency.max
    return found


def is_within(model: ModelSpec, budget: Budget) -> bool:
    """Return whether a model is within every bound."""
    return all(amount <= 0 for amount in excess(measure(model, budget), budget).values())


def is_over(model: ModelSpec, budget: Budget) -> bool:
    """Return whether a model exceeds a maximum. Unlike `is_within`, this stays true for any larger model."""
    measures = measure(model, budget)
    return any(bounds.max is not None and measures.get(name, 0) > bounds.max for name, bounds in budget.limits.items())


def is_under(model: ModelSpec, budget: Budget) -> bool:
    """Return whether a model is below a minimum. This stays true for any smaller model."""
    measures = measure(model, budget)
    limits = budget.limits.items() if measures else ()
    return any(bounds.min is not None and measures[name] < bounds.min for name, bounds in limits)
