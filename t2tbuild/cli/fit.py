"""t2tbuild fit: a budget and one field in, the largest spec within it out."""

from __future__ import annotations

import shlex
import sys
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
    from t2tbuild.cost.fit import Fit, Setting
    from t2tbuild.spec.budget import Budget


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
        str,
        typer.Option(
            metavar="FIELD",
            help="What is set: depth, embed_dim, mlp_ratio, growth_rate, token_dim or image_size.",
        ),
    ] = "depth",
    out: Annotated[Path | None, typer.Option(metavar="FILE", help="Write the spec here, not to stdout.")] = None,
    force: Force = False,
    as_json: Json = False,
) -> None:
    """Write the largest spec within a budget along one field, solved from the exact cost; nothing is trained.

    Fields are set in steps that keep a model sound: widths by whole heads, images by whole patches, ratios by quarters.

    Example: t2tbuild fit t2t_vit_14 --budget-macs 3G --free embed_dim --out narrow.yaml
    """
    from t2tbuild.cost.fit import Dial
    from t2tbuild.cost.fit import fit as fit_model
    from t2tbuild.spec.budget import Budget
    from t2tbuild.spec.model import ModelSpec

    dial = one_of(Dial, FIELDS.get(free, free), "--free")
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
    with document.placing():
        fitted = fit_model(model, budget, dial)

    from t2tbuild.spec.modeline import with_modeline
    from t2tbuild.spec.tree import Spec
    from t2tbuild.spec.write import dump_yaml

    name = f"{model.name}_{dial}_{fitted.best.value:g}"
    named = fitted.best.model.model_copy(update={"name": name if len(name) <= 64 else model.name})
    target = target_file(out, f"{named.name}.yaml", force=force) if out else None
    written = Spec(version=1, model=named, train=document.spec.train)
    told = _told(fitted, dial, budget)
    text = f"# {told[0]}\n{dump_yaml(written)}"
    if target:
        write_new(target, with_modeline(text, "spec", target))
    for line in told:
        stderr().print(line, soft_wrap=True)
    if target:
        stderr().print(f"written to {target}; next: t2tbuild summarize {shlex.quote(str(target))}", soft_wrap=True)
    if as_json:
        over = fitted.over and _record(fitted.over)
        best = _record(fitted.best) | {"spec": written.model_dump(mode="json")}
        print_json(
            {"dial": dial, "budget": budget.model_dump(), "best": best, "over": over, "file": out and str(target)}
        )
    elif not target:
        sys.stdout.write(text)


def _record(setting: Setting) -> dict[str, object]:
    return {"value": setting.value, "macs": setting.cost.macs, "params": setting.cost.params}


def _told(fitted: Fit, dial: str, budget: Budget) -> list[str]:
    """In words: what was found, and what the next larger would cost."""
    best = f"{dial} {fitted.best.value:g}: {_beside(fitted.best, budget)}"
    if fitted.over is None:
        return [f"{best}; no larger one is valid"]
    return [best, f"{dial} {fitted.over.value:g} would be over: {_beside(fitted.over, budget)}"]


def _beside(setting: Setting, budget: Budget) -> str:
    """What a setting costs beside each limit."""
    words = {"macs": ("MACs", setting.cost.macs), "params": ("parameters", setting.cost.params)}
    told = []
    for name, bounds in budget.limits.items():
        what, spent = words[name]
        told += [f"{spent:,} {what}, {spent / bounds.max:.1%} of {short_count(bounds.max)}"] if bounds.max else []
    return " and ".join(told)
