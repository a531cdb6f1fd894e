"""The tables of shipped specs: models, trainings and searches."""

from pathlib import Path
from typing import Any, Literal, assert_never

from t2tbuild.accuracy.predictor import predict_accuracy
from t2tbuild.cost import predict_cost
from t2tbuild.report.table import Column, ColumnTable
from t2tbuild.spec import catalog
from t2tbuild.spec.data import AnyData, CifarData, CsvData, FolderData, TimmData
from t2tbuild.spec.load import load_search_spec, load_spec
from t2tbuild.spec.model import ModelSpec, TimmModel
from t2tbuild.spec.root import PaperRow, Spec
from t2tbuild.spec.tokenizer import T2TTokenizer, Tokenizer
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.units import short_count

Section = Literal["models", "training", "search"]
LEGEND = "~ printed in the paper, not counted; t2tbuild summarize counts with fvcore. t2tbuild show NAME prints a spec."

COLUMNS = {
    "name": Column("name"),
    "kind": Column("kind", 5),
    "params": Column("params", 3, right=True),
    "macs": Column("MACs", 2, right=True),
    "predicted_top1": Column("predicted", 1, right=True, name="predicted top-1"),
    "paper": Column("paper", 4),
    "model": Column("model", 2),
    "data": Column("data", 1),
    "epochs": Column("epochs", 3, right=True),
    "weights or teacher": Column("weights or teacher", 5),
    "base": Column("base", 2),
    "budget": Column("budget", 1),
    "trials": Column("trials", 3, right=True),
    "space": Column("space", 4),
}
"""The columns of the three tables, by the key of `catalog_entries`."""


def catalog_entries(section: Section) -> list[dict[str, Any]]:
    """Return an entry for each shipped spec of a section: its name and what distinguishes it."""
    match section:
        case "models":
            return [_model(name, load_spec(name)) for name in catalog.names("specs")]
        case "training":
            return [_training(name, load_spec(name)) for name in catalog.names("training")]
        case "search":
            return [_search(name) for name in catalog.names("search")]
        case _:
            assert_never(section)


def as_table(section: str, rows: list[dict[str, Any]]) -> ColumnTable:
    """Return the table of a section's `catalog_entries`."""
    keys = [key for key in rows[0] if key in COLUMNS] if rows else []
    table = ColumnTable([COLUMNS[key] for key in keys], title=section)
    for row in rows:
        prefix = "" if row.get("counted", True) else "~"
        table.add_row(*(_cell(key, row[key], prefix) for key in keys))
    return table


def _cell(key: str, value: Any, prefix: str) -> str:
    if value is None:
        return ""
    if key == "predicted_top1":
        return f"{value:.1f}%"
    return f"{prefix}{short_count(value)}" if key in ("params", "macs") else str(value)


def _model(name: str, spec: Spec) -> dict[str, Any]:
    row = spec.paper[0] if spec.paper else PaperRow()
    params, macs, counted = row.params, row.macs, False
    if isinstance(spec.model, ModelSpec):
        cost = predict_cost(spec.model)
        params, macs, counted = cost.params, cost.macs, True
    return {
        "name": name,
        "kind": _kind(spec),
        "params": params,
        "macs": macs,
        "counted": counted,
        "predicted_top1": predicted_top1(spec),
        "paper": _paper(spec),
    }


def predicted_top1(spec: Spec) -> float | None:
    """Return the predicted ImageNet top-1 of a spec's model in percent, to a tenth; None if it cannot be predicted."""
    top1 = predict_accuracy(spec.model).top1
    return None if top1 is None else round(top1, 1)


def _kind(spec: Spec) -> str:
    """Return a short description of a model: t2t performer, plain, SE."""
    if isinstance(spec.model, TimmModel):
        return "timm"
    backbone = spec.model.backbone
    options = [
        word
        for word, option in (
            ("SE", backbone.squeeze_excite),
            ("ghost", backbone.ghost),
            ("LayerScale", backbone.layer_scale),
        )
        if option
    ]
    options += [str(getattr(option, "kind", "")) for option in backbone.options]
    return ", ".join([_tokenizer(spec.model.tokenizer), backbone.kind, *options])


def _tokenizer(tokenizer: Tokenizer) -> str:
    """Return the kinds of a tokenizer and of its token attentions: t2t performer."""
    attentions = (
        [stage.attention.kind for stage in tokenizer.stages if stage.attention]
        if isinstance(tokenizer, T2TTokenizer)
        else []
    )
    return " ".join([tokenizer.kind, *dict.fromkeys(attentions)])


def _paper(spec: Spec) -> str:
    """Return the paper's tables that list the model, and its ImageNet accuracy in them."""
    tables = ", ".join(dict.fromkeys(str(row.table) for row in spec.paper if row.table))
    top1 = next((f": {row.top1}%" for row in spec.paper if row.top1), "")
    if tables:
        return f"Table{'s' * (',' in tables)} {tables}{top1}"
    return f"released code{top1}" if spec.paper else ""


def _training(name: str, spec: Spec) -> dict[str, Any]:
    recipe = spec.train or TrainSpec()
    weights = Path(spec.weights.file).name if spec.weights else None
    return {
        "name": name,
        "model": spec.model.name,
        "data": _data(recipe.data),
        "epochs": recipe.all_epochs,
        "weights or teacher": recipe.distill.teacher if recipe.distill else weights,
        "paper": _paper_top1(spec, recipe),
    }


def _data(data: AnyData) -> str:
    """Return the name of a dataset: cifar10, imagenet."""
    match data:
        case FolderData():
            return Path(data.root).name
        case CsvData():
            return Path(data.file).stem
        case TimmData():
            return data.name
        case _:
            return data.kind


def _paper_top1(spec: Spec, recipe: TrainSpec) -> str | None:
    """Return the accuracy printed in the paper for this training, if there is one."""
    match recipe.data:
        case CifarData(kind=kind):
            printed = [getattr(row, kind) for row in spec.paper]
        case FolderData():
            variant = "distilled" if recipe.distill else None
            printed = [row.top1 for row in spec.paper if row.variant == variant]
        case _:
            printed = []
    return next((f"{top1}%" for top1 in printed if top1), None)


def _search(name: str) -> dict[str, Any]:
    search = load_search_spec(name).search
    return {
        "name": name,
        "base": search.base,
        "budget": search.budget.summary,
        "trials": search.trials,
        "space": ", ".join(path.rpartition(".")[2] for path in search.space),
    }
