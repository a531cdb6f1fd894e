"""t2tbuild fit: a budget and one field in, the largest spec within it out."""

from __future__ import annotations

import shlex
import sys
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import print_json, stderr
from t2tbuild.cli.options import BudgetMacs, BudgetParams, Force, Json, Overrides, SpecArgument, count_option, one_of
from t2tbuild.cli.spec import open_spec
from t2tbuild.cli.write import target_file, write_new
from t2tbuild.errors import InputError
from t2tbuild.spec.units import short_count

if TYPE_CHECKING:
    from t2tbuild.cost.fit import Fit, Point
    from t2tbuild.spec import ModelSpec, Spec
    from t2tbuild.spec.budget import Budget
    from t2tbuild.spec.document import Document


class By(StrEnum):
    """What a whole shape is chosen by."""

    ACCURACY = "accuracy"


FIELDS = {
    "backbone.depth": "depth",
    "backbone.embed_dim": "embed_dim",
    "backbone.mlp_ratio": "mlp_ratio",
    "backbone.growth_rate": "growth_rate",
    "tokenizer.stages.*.token_dim": "token_dim",
}
"""What may be freed by its path, as a search spec names it."""


def fit(
    spec: SpecArgument,
    overrides: Overrides = None,
    budget_macs: BudgetMacs = None,
    budget_params: BudgetParams = None,
    free: Annotated[
        str | None,
        typer.Option(
            metavar="FIELD",
            help="What is set: depth (the default), embed_dim, mlp_ratio, growth_rate, token_dim or image_size.",
        ),
    ] = None,
    by: Annotated[
        str | None,
        typer.Option(
            metavar="WHAT",
            help="accuracy: width, depth and MLP ratio of the best predicted top-1, by its interval's lower end.",
        ),
    ] = None,
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the spec here, not to stdout.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the largest spec within a budget along one field, or the backbone of the best predicted accuracy.

    Both follow from the exact cost; nothing is trained. Fields are set in steps that keep a model valid: widths by
    whole heads, images by whole patches, ratios by quarters.

    Example: t2tbuild fit t2t_vit_14 --budget-macs 3G --by accuracy --out best_of_3g.yaml
    """
    from t2tbuild.cost.fit import Axis
    from t2tbuild.cost.fit import fit as fit_model
    from t2tbuild.spec.budget import Budget
    from t2tbuild.spec.model import ModelSpec

    if by is not None:
        one_of(By, by, "--by")
        if free is not None:
            raise InputError("--free sets one field, --by accuracy all of the backbone's shape; write one of the two")
    field = free or "depth"
    dial = one_of(Axis, FIELDS.get(field, field), "--free")
    limits = {
        "macs": count_option("--budget-macs", budget_macs),
        "params": count_option("--budget-params", budget_params),
    }
    if not any(limits.values()):
        raise InputError("no budget; write --budget-macs 5G, --budget-params 22M, or both")
    budget = Budget.model_validate({name: limit for name, limit in limits.items() if limit})
    document = open_spec(spec, overrides)
    model = document.spec.model
    if not isinstance(model, ModelSpec):
        raise InputError(f"{model.name} is a model of timm, which no formula covers; name one of ours")
    if out and not out.is_dir():
        target_file(out, "", force=force)  # what cannot be written is told before the work
    if by is not None:
        _fit_by_accuracy(document, model, budget, out, force=force, as_json=as_json)
        return
    with document.placing():
        fitted = fit_model(model, budget, dial)

    from t2tbuild.spec.root import Spec

    name = f"{model.name}_{dial}_{fitted.best.value:g}"
    named = fitted.best.model.model_copy(update={"name": name if len(name) <= 64 else model.name})
    written = Spec(version=1, model=named, train=document.spec.train)
    target = _write(written, named.name, _told(fitted, dial, budget), out, force=force, as_json=as_json)
    if as_json:
        over = fitted.over and _record(fitted.over)
        best = _record(fitted.best) | {"spec": written.model_dump(mode="json")}
        print_json(
            {"dial": dial, "budget": budget.model_dump(), "best": best, "over": over, "file": out and str(target)}
        )


def _write(spec: Spec, name: str, lines: Sequence[str], out: Path | None, *, force: bool, as_json: bool) -> Path | None:
    """Write a spec to its file, or to stdout unless JSON goes there, and say in `lines` what it is; the file."""
    from t2tbuild.spec.modeline import with_modeline
    from t2tbuild.spec.write import dump_yaml

    target = target_file(out, f"{name}.yaml", force=force) if out else None
    text = f"# {lines[0]}\n{dump_yaml(spec)}"
    if target:
        write_new(target, with_modeline(text, "spec", target))
    for line in lines:
        stderr().print(line, soft_wrap=True)
    if target:
        stderr().print(f"written to {target}; next: t2tbuild summarize {shlex.quote(str(target))}", soft_wrap=True)
    elif not as_json:
        sys.stdout.write(text)
    return target


def _record(setting: Point) -> dict[str, object]:
    return {"value": setting.value, "macs": setting.cost.macs, "params": setting.cost.params}


def _told(fitted: Fit, dial: str, budget: Budget) -> list[str]:
    """In words: what was found, and what the next larger would cost."""
    best = f"{dial} {fitted.best.value:g}: {_beside(fitted.best, budget)}"
    if fitted.over is None:
        return [f"{best}; no larger one is valid"]
    return [best, f"{dial} {fitted.over.value:g} would be over: {_beside(fitted.over, budget)}"]


def _beside(setting: Point, budget: Budget) -> str:
    """What a setting costs beside each limit."""
    words = {"macs": ("MACs", setting.cost.macs), "params": ("parameters", setting.cost.params)}
    message = []
    for name, bounds in budget.limits.items():
        what, spent = words[name]
        message += [f"{spent:,} {what}, {spent / bounds.max:.1%} of {short_count(bounds.max)}"] if bounds.max else []
    return " and ".join(message)


LISTED = 5
"""Shapes that are shown beside the best."""


def _fit_by_accuracy(
    document: Document[Spec], model: ModelSpec, budget: Budget, out: Path | None, *, force: bool, as_json: bool
) -> None:
    """Write the shape of the best predicted accuracy within a budget, and show the next ones."""
    from t2tbuild.accuracy.best_shape import best_shapes, named_by_shape
    from t2tbuild.accuracy.predictor import predict_accuracy
    from t2tbuild.cost import predict_cost
    from t2tbuild.cost.fit import is_within
    from t2tbuild.spec.root import Spec as SpecTree

    with document.placing():
        shapes = best_shapes(model, lambda shape: is_within(predict_cost(shape), budget))
    if not shapes:
        reason = predict_accuracy(model).reason
        message = f"no backbone within {budget.short} is near a published model{f' ({reason})' if reason else ''}"
        raise InputError(f"{message}; write --free depth instead of --by accuracy")
    lines, records = [], []
    for one in shapes[: LISTED + 1]:
        backbone, cost = one.model.backbone, predict_cost(one.model)
        lines.append(
            f"depth {backbone.depth}, embed_dim {backbone.embed_dim}, mlp_ratio {backbone.mlp_ratio}: predicted "
            f"ImageNet top-1 {one.accuracy}, {short_count(cost.macs)} MACs, {short_count(cost.params)} parameters"
        )
        shape = {"depth": backbone.depth, "embed_dim": backbone.embed_dim, "mlp_ratio": backbone.mlp_ratio}
        accuracy = {name: getattr(one.accuracy, name) for name in ("top1", "low", "high")}
        records.append(shape | accuracy | {"macs": cost.macs, "params": cost.params})
    best = named_by_shape(model, shapes[0].model)
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
