"""The tables of what ships: models, trainings, searches."""

from pathlib import Path
from typing import Any, Literal, assert_never

from rich.table import Table

from t2tbuild.accuracy.predictor import predict_accuracy
from t2tbuild.cost import predict_cost
from t2tbuild.spec import catalog
from t2tbuild.spec.data import AnyData, CifarData, FolderData, TimmData
from t2tbuild.spec.load import load_search_spec, load_spec
from t2tbuild.spec.model import ModelSpec, TimmModel
from t2tbuild.spec.root import PaperRow, Spec
from t2tbuild.spec.tokenizer import T2TTokenizer, Tokenizer
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.units import short_count

Shelf = Literal["models", "training", "search"]
LEGEND = "~ as the paper prints it; t2tbuild summarize lets fvcore count. t2tbuild show NAME prints a spec."


def entries(shelf: Shelf) -> list[dict[str, Any]]:
    """One entry for each shipped spec of a shelf: its name and what tells it from the others."""
    match shelf:
        case "models":
            return [_model(name, load_spec(name)) for name in catalog.names("specs")]
        case "training":
            return [_training(name, load_spec(name)) for name in catalog.names("training")]
        case "search":
            return [_search(name) for name in catalog.names("search")]
        case _:
            assert_never(shelf)


def as_table(shelf: str, rows: list[dict[str, Any]]) -> Table:
    """The entries of a shelf as a table for people."""
    table = Table(title=shelf, title_justify="left")
    columns = [column for column in rows[0] if column != "counted"] if rows else []
    for column in columns:
        right = column in ("params", "macs", "predicted_top1", "epochs", "trials")
        table.add_column(
            {"macs": "MACs", "predicted_top1": "predicted"}.get(column, column),
            justify="right" if right else "left",
            no_wrap=right or column == "name",  # the other columns shrink first
        )
    for row in rows:
        about = "" if row.get("counted", True) else "~"
        table.add_row(*(_cell(column, row[column], about) for column in columns))
    return table


def _cell(column: str, value: Any, about: str) -> str:
    if value is None:
        return ""
    if column == "predicted_top1":
        return f"{value:.1f}%"
    return f"{about}{short_count(value)}" if column in ("params", "macs") else str(value)


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
    """The predicted ImageNet top-1 of a spec's model in percent, to a tenth; None where there is none."""
    top1 = predict_accuracy(spec.model).top1
    return None if top1 is None else round(top1, 1)


def _kind(spec: Spec) -> str:
    """What kind of model it is, in a few words: t2t performer, plain, SE."""
    if isinstance(spec.model, TimmModel):
        return "timm"
    backbone = spec.model.backbone
    options = [word for word, option in (("SE", backbone.squeeze_excite), ("ghost", backbone.ghost)) if option]
    return ", ".join([_tokenizer(spec.model.tokenizer), backbone.kind, *options])


def _tokenizer(tokenizer: Tokenizer) -> str:
    """The kind of a tokenizer, and of its token attentions: t2t performer."""
    attentions = (
        [stage.attention.kind for stage in tokenizer.stages if stage.attention]
        if isinstance(tokenizer, T2TTokenizer)
        else []
    )
    return " ".join([tokenizer.kind, *dict.fromkeys(attentions)])


def _paper(spec: Spec) -> str:
    """The tables of the paper that have the model, and its ImageNet accuracy there."""
    tables = ", ".join(dict.fromkeys(str(row.table) for row in spec.paper if row.table))
    top1 = next((f": {row.top1}%" for row in spec.paper if row.top1), "")
    if tables:
        return f"Table{'s' * (',' in tables)} {tables}{top1}"
    return f"released code{top1}" if spec.paper else ""


def _training(name: str, spec: Spec) -> dict[str, Any]:
    recipe = spec.train or TrainSpec()
    starts = Path(spec.weights.file).name if spec.weights else None
    return {
        "name": name,
        "model": spec.model.name,
        "data": _data(recipe.data),
        "epochs": recipe.all_epochs,
        "weights or teacher": recipe.distill.teacher if recipe.distill else starts,
        "paper": _printed(spec, recipe),
    }


def _data(data: AnyData) -> str:
    """What is trained on, in a word: cifar10, imagenet."""
    match data:
        case FolderData():
            return Path(data.root).name
        case TimmData():
            return data.name
        case _:
            return data.kind


def _printed(spec: Spec, recipe: TrainSpec) -> str | None:
    """The accuracy that the paper prints for a training of its own."""
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
        "budget": search.budget.short,
        "trials": search.trials,
        "space": ", ".join(path.rpartition(".")[2] for path in search.space),
    }
