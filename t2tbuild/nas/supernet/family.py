"""A family of models for several budgets, extracted from one supernet."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import nn

from t2tbuild.build import build_model
from t2tbuild.cost.counter import count_model
from t2tbuild.errors import ExportError, InputError
from t2tbuild.nas.model_key import key_of
from t2tbuild.nas.plan import Plan
from t2tbuild.nas.proxy import make_proxy_model
from t2tbuild.nas.space import Space, to_category
from t2tbuild.nas.supernet.inherited import within, within_latency
from t2tbuild.nas.supernet.model import Supernet
from t2tbuild.nas.supernet.results import FOLDER, InheritedResult, read_results
from t2tbuild.spec.budget import LABELS
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.space import Value
from t2tbuild.spec.units import format_count, short_count
from t2tbuild.spec.with_changes import with_changes
from t2tbuild.training.dataset_paths import class_names


@dataclass(frozen=True)
class FamilyMember:
    """The best member within a budget of MACs: its result with inherited weights, and the model that is deployed.

    `model` has the image size and the classes of the data; its MACs are at most those of the candidate.
    """

    budget: int
    result: InheritedResult
    model: ModelSpec


def choose_family(planned: Plan, run: Path, budgets: Sequence[int]) -> list[FamilyMember]:
    """Return the best evaluated member within each budget of MACs, by its inherited loss.

    The MACs of each candidate are counted again. Raises InputError for the run of a search without a supernet or of a
    narrow one, and for a budget below every evaluated member; ExportError for a members.csv that was edited.
    """
    search, results = planned.search, _read_members(run)
    if search.supernet is None or not results:
        missing = "has no supernet" if search.supernet is None else "has evaluated no members of its supernet yet"
        raise InputError(f"{run}: {missing}; add search.supernet.epochs=20 to a new search, or let this one go on")
    if search.proxy.width != "full":
        message = "its supernet has a quarter of the width of the candidates, so no candidate can be extracted"
        raise InputError(f"{run}: {message}; search again with search.proxy.width=full")
    usable = within(within_latency(search, results), 0)
    if not usable:
        message = "all evaluated members of its supernet failed, or are over the limit on latency"
        raise InputError(f"{run}: {message}; search again with a larger budget.latency")
    return [_choose(planned, run, usable, budget) for budget in budgets]


def _read_members(run: Path) -> list[InheritedResult]:
    try:
        return read_results(run / FOLDER, InheritedResult)
    except (LookupError, TypeError, ValueError) as error:
        raise _edited(run, f"cannot be read: {error!r:.80}") from None


def _edited(run: Path, message: str) -> ExportError:
    return ExportError(f"{run / FOLDER}/members.csv: {message}; was it edited?")


def _choose(planned: Plan, run: Path, results: Sequence[InheritedResult], budget: int) -> FamilyMember:
    found = within(results, budget)
    if not found:
        smallest = short_count(min(one.macs for one in results))
        message = f"no evaluated member of {run} is within {format_count(budget)} MACs"
        raise InputError(f"--budgets: {message}: the smallest has {smallest}; write a larger budget")
    best, search = found[0], planned.search
    try:
        candidate = rebuild(planned.space, best.values)
    except (LookupError, TypeError, ValueError):
        raise _edited(run, f"member {best.key} has values that are not in the space") from None
    macs = count_model(candidate).macs
    if key_of(candidate) != best.key or not best.macs == macs <= budget:
        raise _edited(run, f"member {best.key} has {best.macs:,} {LABELS['macs']}, but its model has {macs:,}")
    model = make_proxy_model(candidate, search.proxy, "cpu")
    changes: dict[str, object] = {"name": f"{search.name[:50]}_{format_count(budget)}"}
    names = class_names(search.proxy.data)
    if names is not None and len(names) == model.num_classes:
        changes["label_names"] = names
    return FamilyMember(budget, best, with_changes(model, changes, "extracted"))


def rebuild(space: Space, values: Mapping[str, Value]) -> ModelSpec:
    """Return the model of a member by its values of the searched fields.

    A field without a value is one of a block that the member does not have. Raises LookupError for other values than
    those of the space.
    """

    def pick(path: str, choices: Sequence[Value]) -> Value:
        given = values.get(path)
        found = [one for one in choices if to_category(one) == given]
        if not found and given is not None:
            raise LookupError(path)
        return (found or choices)[0]

    solved = values[space.solved.path] if space.solved else None
    return space.model(space.draw(pick), solved)


def extract_module(supernet: Supernet, model: ModelSpec) -> nn.Module:
    """Return a member as a module of its own, with the weights that it inherits, for inference.

    Raises ExportError where it returns other logits than the member within the supernet.
    """
    module: nn.Module = build_model(model)
    module.load_state_dict(supernet.extract(model))
    images = torch.rand(2, model.in_chans, *model.image, generator=torch.Generator().manual_seed(0))
    with torch.inference_mode():
        difference = (module.eval()(images) - supernet.subnet(model).eval()(images)).abs().max().item()
    if not difference <= 1e-5:  # also for NaN
        raise ExportError(f"{model.name} returns other logits than within the supernet: difference {difference:.1e}")
    return module
