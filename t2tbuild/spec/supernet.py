"""The supernet of a search: one training whose weights all members of the space share."""

from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.spec.base import Count, ListAsTuple, Node, Violation, rule, unit
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.units import format_count

FEWEST_VALIDITY = 8
"""Fewest members whose stand-alone training measures a rank correlation."""
FEWEST_SANDWICH = 3
"""Members of a step of the sandwich rule: the largest, the smallest, and one at random."""


class SupernetSpec(Node):
    """One training of shared weights (Yu and Huang, ICCV 2019; Chen et al., "AutoFormer", ICCV 2021).

    The largest member of the space holds all others: a member is a slice of its widths, heads and blocks.
    """

    epochs: int | None = Field(default=None, ge=1, le=100_000, examples=[20], json_schema_extra=unit("epochs"))
    """Length of the supernet's training, in passes over the proxy's data. Give this or `steps`."""
    steps: int | None = Field(default=None, ge=1, le=100_000_000, examples=[2000], json_schema_extra=unit("steps"))
    """Length of the supernet's training, in optimiser steps. Give this or `epochs`."""
    sampling: Literal["sandwich", "random"] = "sandwich"
    """Members trained at each step, all within the budget. sandwich: the largest, the smallest, and others at random.
    random: all of them at random."""
    members: int = Field(default=3, ge=1, le=16, examples=[3], json_schema_extra=unit("members"))
    """Number of members trained at each step; their gradients are added before the weights change."""
    distill: bool = True
    """In-place distillation: the largest member of a step learns from the labels, the others from its outputs."""
    candidates: int = Field(default=1000, ge=1, le=1_000_000, examples=[1000], json_schema_extra=unit("members"))
    """Members that are evaluated on the validation split with inherited weights."""
    budgets: Annotated[tuple[Count, ...], ListAsTuple] = Field(
        default=(), max_length=32, examples=[["1G", "2G"]], json_schema_extra=unit("multiply-adds per image")
    )
    """Further limits on MACs, all below `budget.macs`: each has a best member of its own."""
    validity: int = Field(default=24, ge=0, le=1000, examples=[24], json_schema_extra=unit("members"))
    """Random members that are also trained alone, which measures the rank correlation of inherited with stand-alone
    losses. 0 measures nothing, and the supernet then decides nothing."""
    best: int = Field(default=3, ge=1, le=1000, examples=[3], json_schema_extra=unit("members"))
    """Best members that are trained on for confirmation, from inherited and from randomly initialised weights."""
    random: int = Field(default=3, ge=0, le=1000, examples=[3], json_schema_extra=unit("members"))
    """Random members that are trained on beside them."""

    @rule
    def _one_of_epochs_and_steps(self) -> Iterator[Violation]:
        if self.epochs is not None and self.steps is not None:
            yield Violation("epochs", "epochs and steps are two lengths of one training", "remove one of the two")
        elif self.epochs is None and self.steps is None:
            yield Violation("", "the training of the supernet has no length", "write epochs: 20, or steps: 2000")

    @rule
    def _sandwich_of_three(self) -> Iterator[Violation]:
        if self.sampling == "sandwich" and self.members < FEWEST_SANDWICH:
            message = (
                f"the sandwich rule trains the largest, the smallest and random members, not {self.members} a step"
            )
            yield Violation("members", message, f"write {FEWEST_SANDWICH}, or sampling: random")

    @rule
    def _validity_is_measured_or_off(self) -> Iterator[Violation]:
        if 0 < self.validity < FEWEST_VALIDITY:
            message = f"{self.validity} members measure no rank correlation"
            yield Violation("validity", message, f"write at least {FEWEST_VALIDITY}, or 0")

    @rule
    def _budgets_rise(self) -> Iterator[Violation]:
        for index, (below, above) in enumerate(zip(self.budgets, self.budgets[1:], strict=False), start=1):
            if above <= below:
                message = f"budgets must rise, got {format_count(above)} after {format_count(below)}"
                yield Violation(("budgets", index), message, "sort them, each once")


def check_supernet(supernet: SupernetSpec | None, budget: Budget, evaluator: str | None) -> Iterator[Violation]:
    """Yield the violations of a supernet within its search."""
    if supernet is None:
        return
    if evaluator is not None:
        message = "evaluator is a function of your own, which knows no inherited weights"
        yield Violation("supernet", message, "remove supernet, or evaluator")
    most = None if budget.macs is None else budget.macs.max
    for index, macs in enumerate(supernet.budgets):
        if most is None:
            message = "budgets are below the largest MACs of a candidate, and budget.macs has no maximum"
            yield Violation(("supernet", "budgets"), message, f"write budget: {{macs: {format_count(2 * macs)}}}")
            return
        if macs >= most:
            message = f"budgets must be below budget.macs, got {format_count(macs)} and {format_count(most)}"
            yield Violation(("supernet", "budgets", index), message, "remove it, or raise budget.macs")
