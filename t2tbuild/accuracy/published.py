"""Published trainings as data: results of plain vision transformers from papers and model zoos."""

import functools
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from t2tbuild.accuracy.read import read_data
from t2tbuild.spec.model import ModelSpec

FILE = Path(__file__).parent / "published.yaml"
IMAGENET = "in1k"
"""`Recipe.data` of a training on ImageNet-1k alone."""

UncertainField = Literal["epochs", "teacher", "recipe", "num_heads", "mlp_ratio", "top1"]
"""A field of a row that may be uncertain. `recipe`: the trainings of this recipe may differ."""


@dataclass(frozen=True)
class Recipe:
    """The training recipe. Results of the same recipe are comparable.

    `epochs` is None where the source does not state it. `data` is in1k, in12k, in21k or cifar100. `teacher` is the name
    of the distillation teacher, None without one.
    """

    name: str
    epochs: float | None
    data: str
    teacher: str | None


@dataclass(frozen=True)
class PublishedModel:
    """A trained model with the figures of its source.

    `model` is its shape as a spec, `extras` lists features that a spec cannot express. `params` and `macs` are absolute
    counts, None where they are not printed. `top1` is in percent, on ImageNet-1k validation or on the recipe's
    CIFAR-100. `uncertain` names the fields that are not printed figures of the source: from memory, assumed, from a
    chart or from a damaged text.
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
    uncertain: tuple[UncertainField, ...] = ()


class Row(BaseModel):
    """A row of published.yaml, validated. `params` are in millions, `macs` in G, `top1` in percent."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True)

    name: str | int
    source: str
    where: str
    recipe: str
    tokenizer: str
    backbone: dict[str, Any]
    top1: Annotated[float, Field(gt=0, lt=100)]
    image_size: int | list[int] = 224
    params: Annotated[float, Field(gt=0)] | None = None
    macs: Annotated[float, Field(gt=0)] | None = None
    extras: list[str] = []
    uncertain: list[UncertainField] = []
    note: str = ""


@functools.cache
def published_models() -> tuple[PublishedModel, ...]:
    """Load every published model, in the order of the file. The first call takes a third of a second."""
    data = read_data(FILE)
    recipes = {
        name: Recipe(name, one["epochs"], one["data"], one.get("teacher")) for name, one in data["recipes"].items()
    }
    return tuple(_model(row, recipes, data["tokenizers"]) for row in data["rows"])


def reserved_sources() -> frozenset[str]:
    """Return the sources that were not used in building the predictor, reserved for its final test."""
    return frozenset(read_data(FILE)["reserved"])


def sources() -> Mapping[str, Mapping[str, Any]]:
    """Return title, authors, year and arXiv number of each source, and where its figures are printed."""
    found: Mapping[str, Mapping[str, Any]] = read_data(FILE)["sources"]
    return found


def _model(given: Mapping[str, Any], recipes: Mapping[str, Recipe], tokenizers: Mapping[str, Any]) -> PublishedModel:
    """Return a row as a published model. Raises pydantic.ValidationError for an unknown field or a wrong type."""
    row = Row.model_validate(given)
    fields = {
        "name": "published",
        "image_size": row.image_size,
        "tokenizer": tokenizers[row.tokenizer],
        "backbone": row.backbone,
        "distillation_token": "distillation_token" in row.extras,
    }
    return PublishedModel(
        name=str(row.name),
        source=row.source,
        where=row.where,
        recipe=recipes[row.recipe],
        model=ModelSpec.model_validate(fields),
        params=None if row.params is None else row.params * 1e6,
        macs=None if row.macs is None else row.macs * 1e9,
        top1=row.top1,
        extras=tuple(row.extras),
        note=row.note,
        uncertain=tuple(row.uncertain),
    )
