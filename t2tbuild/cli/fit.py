"""t2tbuild fit: write the largest spec within a budget."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr
from t2tbuild.cli.options import (
    BudgetMacs,
    BudgetParams,
    Force,
    Json,
    Overrides,
    SpecArgument,
    deprecated_option,
    parse_choice,
    parse_count_option,
)
from t2tbuild.cli.spec import open_spec
from t2tbuild.cli.write import resolve_target, write_file
from t2tbuild.errors import InputError
from t2tbuild.spec.units import short_count

if TYPE_CHECKING:
    from t2tbuild.cost.fit import Fit, Point
    from t2tbuild.spec import ModelSpec, Spec
    from t2tbuild.spec.budget import Budget
    from t2tbuild.spec.document import Document


class By(StrEnum):
    """Criteria by which the shape of the backbone is chosen."""

    ACCURACY = "accuracy"


AXIS_PATHS = {
    "backbone.depth": "depth",
    "backbone.embed_dim": "embed_dim",
    "backbone.mlp_ratio": "mlp_ratio",
    "backbone.growth_rate": "growth_rate",
    "tokenizer.stages.*.token_dim": "token_dim",
}
"""Axes by their path in a search spec."""


def fit(
    spec: SpecArgument,
    overrides: Overrides = None,
    budget_macs: BudgetMacs = None,
    budget_params: BudgetParams = None,
    axis: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="The field to vary: depth (the default), embed_dim, mlp_ratio, growth_rate, token_dim or image_size.",
        ),
    ] = None,
    free: Annotated[str | None, typer.Option("--free", hidden=True)] = None,  # the old name of --axis
    by: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="accuracy: the width, depth and MLP ratio whose predicted top-1 has the highest lower bound.",
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(metavar="FILE", help="Write the spec to this file instead of stdout.")
    ] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the largest spec within a budget along one axis, or the one with the best predicted accuracy.

    Both are computed from the exact cost; nothing is trained. An axis has steps that keep the model valid: widths grow
    by whole heads, images by whole patches, ratios by quarters.

    Example: t2tbuild fit t2t_vit_14 --budget-macs 3G --by accuracy --out best_of_3g.yaml
    """
    axis = deprecated_option("--free", free, "--axis", axis)

    from t2tbuild.cost.fit import Axis
    from t2tbuild.cost.fit import fit as fit_model
    from t2tbuild.spec.budget import Budget
    from t2tbuild.spec.model import ModelSpec

    if by is not None:
        parse_choice(By, by, "--by")
        if axis is not None:
            raise InputError("--axis varies one field, --by accuracy several; write one of the two")
    field = axis or "depth"
    chosen = parse_choice(Axis, AXIS_PATHS.get(field, field), "--axis")
    limits = {
        "macs": parse_count_option("--budget-macs", budget_macs),
        "params": parse_count_option("--budget-params", budget_params),
    }
    if not any(limits.values()):
        raise InputError("no budget; write --budget-macs 5G, --budget-params 22M, or both")
    budget = Budget.model_validate({name: limit for name, limit in limits.items() if limit})
    document = open_spec(spec, overrides)
    model = document.spec.model
    if not isinstance(model, ModelSpec):
        raise InputError(f"{model.name} is a timm model, which has no closed form; name a t2tbuild model")
    if out and not out.is_dir():
        resolve_target(out, "", force=force)  # raises before the work if it cannot be written
    if by is not None:
        _fit_by_accuracy(document, model, budget, out, force=force, as_json=as_json)
        return
    with document.located_errors():
        fitted = fit_model(model, budget, chosen)

    from t2tbuild.spec.root import Spec

    name = f"{model.name}_{chosen}_{fitted.best.value:g}"
    named = fitted.best.model.model_copy(update={"name": name if len(name) <= 64 else model.name})
    written = Spec(version=1, extensions=document.spec.extensions, model=named, train=document.spec.train)
    target = _write(written, named.name, _format_fit(fitted, chosen, budget), out, force=force, as_json=as_json)
    if as_json:
        from t2tbuild.nas.old_names import FIT_KEYS, with_old_names

        over = fitted.over and _point_to_json(fitted.over)
        best = _point_to_json(fitted.best) | {"spec": written.model_dump(mode="json")}
        found = {"axis": chosen, "budget": budget.model_dump(), "best": best, "over": over, "file": out and str(target)}
        print_json(with_old_names(found, FIT_KEYS))


def _write(spec: Spec, name: str, lines: Sequence[str], out: Path | None, *, force: bool, as_json: bool) -> Path | None:
    """Write a spec to its file, or to stdout unless JSON goes there, and print `lines` to stderr.

    Returns the path of the file, None without one.
    """
    from t2tbuild.spec.modeline import with_modeline
    from t2tbuild.spec.write import dump_yaml

    target = resolve_target(out, f"{name}.yaml", force=force) if out else None
    text = f"# {lines[0]}\n{dump_yaml(spec)}"
    if target:
        write_file(target, with_modeline(text, "spec", target))
    for line in lines:
        stderr().print(line, soft_wrap=True)
    if target:
        stderr().print(f"written to {target}; next: t2tbuild summarize {shlex.quote(str(target))}", soft_wrap=True)
    elif not as_json:
        sys.stdout.write(text)
    return target


def _point_to_json(point: Point) -> dict[str, object]:
    return {"value": point.value, "macs": point.cost.macs, "params": point.cost.params}


def _format_fit(fitted: Fit, axis: str, budget: Budget) -> list[str]:
    """Describe the value found, and what the next larger one would cost."""
    best = f"{axis} {fitted.best.value:g}: {_format_cost(fitted.best, budget)}"
    if fitted.over is None:
        return [f"{best}; no larger value is valid"]
    return [best, f"{axis} {fitted.over.value:g} is over the budget: {_format_cost(fitted.over, budget)}"]


def _format_cost(point: Point, budget: Budget) -> str:
    """Describe the cost of a point as a share of each limit."""
    costs = {"macs": ("MACs", point.cost.macs), "params": ("parameters", point.cost.params)}
    shares = []
    for name, bounds in budget.limits.items():
        unit, spent = costs[name]
        shares += [f"{spent:,} {unit}, {spent / bounds.max:.1%} of {short_count(bounds.max)}"] if bounds.max else []
    return " and ".join(shares)


MAX_LISTED = 5
"""Number of further shapes to print after the best one."""


def _fit_by_accuracy(
    document: Document[Spec], model: ModelSpec, budget: Budget, out: Path | None, *, force: bool, as_json: bool
) -> None:
    """Write the shape with the best predicted accuracy within a budget, and print the next ones."""
    from t2tbuild.accuracy.best_shape import best_shapes, name_by_shape
    from t2tbuild.accuracy.predictor import predict_accuracy
    from t2tbuild.cost import predict_cost
    from t2tbuild.cost.budget import is_over
    from t2tbuild.spec.root import Spec as SpecTree

    with document.located_errors():
        shapes = best_shapes(model, lambda shape: not is_over(shape, budget))
    if not shapes:
        reason = predict_accuracy(model).reason
        message = f"no backbone within {budget.summary} is near a published model{f' ({reason})' if reason else ''}"
        raise InputError(f"{message}; write --axis depth instead of --by accuracy")
    lines, records = [], []
    for one in shapes[: MAX_LISTED + 1]:
        backbone, cost = one.model.backbone, predict_cost(one.model)
        lines.append(
            f"depth {backbone.depth}, embed_dim {backbone.embed_dim}, mlp_ratio {backbone.mlp_ratio}: predicted "
            f"ImageNet top-1 {one.accuracy}, {short_count(cost.macs)} MACs, {short_count(cost.params)} parameters"
        )
        shape = {"depth": backbone.depth, "embed_dim": backbone.embed_dim, "mlp_ratio": backbone.mlp_ratio}
        accuracy = {name: getattr(one.accuracy, name) for name in ("top1", "low", "high")}
        records.append(shape | accuracy | {"macs": cost.macs, "params": cost.params})
    best = name_by_shape(model, shapes[0].model)
    written = SpecTree(version=1, model=best, train=document.spec.train)
    shown = [lines[0], *(f"  next: {line}" for line in lines[1:])]
    target = _write(written, best.name, shown, out, force=force, as_json=as_json)
    if as_json:
        spec = {"spec": written.model_dump(mode="json")}
        file = out and str(target)
        print_json(
            {
                "by": "accuracy",
                "budget": budget.model_dump(),
                "best": records[0] | spec,
                "next": records[1:],
                "file": file,
            }
        )
