"""Published trainings as data: what papers and model zoos print of vision transformers that are a column of blocks."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from t2tbuild.accuracy.read import read_data
from t2tbuild.spec.model import ModelSpec

FILE = Path(__file__).parent / "published.yaml"
IMAGENET = "in1k"
"""What `Recipe.data` says of a training on ImageNet-1k alone."""


@dataclass(frozen=True)
class Recipe:
    """What trainings have in common, so that their results may be compared.

    `epochs` is None where the source does not say; `data` is in1k, in12k, in21k or cifar100; `teacher` names the model
    whose answers were learned, None without one.
    """

    name: str
    epochs: float | None
    data: str
    teacher: str | None


@dataclass(frozen=True)
class PublishedModel:
    """A trained model as its source prints it.

    `model` is its shape in our language; `extras` names what it has besides. `params` and `macs` are absolute counts,
    None where they are not printed; `top1` is in percent, of ImageNet-1k validation (of CIFAR-100 where the recipe's
    data are).
    """

    name: str
    source: str
    where: str
    recipe: Recipe
    model: ModelSpec
    params: float | None
    macs: float | None
    top1: float
    extras: tuple[str, ...]
    note: str


@functools.cache
def published_models() -> tuple[PublishedModel, ...]:
    """Every published model, in the order of the file. It takes a third of a second."""
    data = read_data(FILE)
    recipes = {
        name: Recipe(name, one["epochs"], one["data"], one.get("teacher")) for name, one in data["recipes"].items()
    }
    return tuple(_model(row, recipes, data["tokenizers"]) for row in data["rows"])


def reserved_sources() -> frozenset[str]:
    """The sources that had no part in building the predictor, for its last test."""
    return frozenset(read_data(FILE)["reserved"])


def sources() -> Mapping[str, Mapping[str, Any]]:
    """Title, authors, year and arXiv number of each source, and where its figures were read."""
    found: Mapping[str, Mapping[str, Any]] = read_data(FILE)["sources"]
    return found


def _model(row: Mapping[str, Any], recipes: Mapping[str, Recipe], tokenizers: Mapping[str, Any]) -> PublishedModel:
    fields = {
        "name": "published",
        "image_size": row.get("image_size", 224),
        "tokenizer": tokenizers[row["tokenizer"]],
        "backbone": row["backbone"],
        "distillation_token": "distillation_token" in row.get("extras", ()),
    }
    return PublishedModel(
        name=str(row["name"]),
        source=row["source"],
        where=row["where"],
        recipe=recipes[row["recipe"]],
        model=ModelSpec.model_validate(fields),
        params=row["params"] * 1e6 if "params" in row else None,
        macs=row["macs"] * 1e9 if "macs" in row else None,
        top1=row["top1"],
        extras=tuple(row.get("extras", ())),
        note=row.get("note", ""),
    )
