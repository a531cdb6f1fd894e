"""The roots of the spec language: what a whole file says."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from t2tbuild.spec.base import Count, Listed, Node, OneOrMany, Short, Version, unit
from t2tbuild.spec.model import ModelField
from t2tbuild.spec.search import Search
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.weights import WeightsField

Percent = Annotated[int | float, Field(ge=0, le=100)]


class PaperRow(Node):
    """What a row of a table of the paper prints for this model, to be shown beside what we count."""

    table: int | None = Field(default=None, ge=1, le=7, examples=[1])
    """Number of the paper's table; absent where the figures are those of the released code."""
    row: int | None = Field(default=None, ge=1, examples=[6])
    """Number of the row in that table, for its order."""
    variant: str | None = Field(default=None, examples=["distilled"])
    """What sets the row apart from others of the same model."""
    params: Count | None = Field(default=None, examples=["21.5M"], json_schema_extra=unit("parameters"))
    """Parameters, as the paper prints them."""
    macs: Count | None = Field(default=None, examples=["4.8G"], json_schema_extra=unit("multiply-adds an image"))
    """Multiply-adds, as the paper prints them."""
    top1: Percent | None = Field(default=None, examples=[81.5], json_schema_extra=unit("percent"))
    """ImageNet top-1 accuracy as printed, in percent."""
    cifar10: Percent | None = Field(default=None, examples=[97.5], json_schema_extra=unit("percent"))
    """Top-1 accuracy after transfer to CIFAR-10, in percent (Table 5)."""
    cifar100: Percent | None = Field(default=None, examples=[88.4], json_schema_extra=unit("percent"))
    """Top-1 accuracy after transfer to CIFAR-100, in percent (Table 5)."""
    note: str | None = Field(default=None, examples=["the released code has depth 7"])
    """Where the paper and the released code differ, and why our count is another."""


def _one_row(value: object) -> object:
    return (value,) if isinstance(value, dict | PaperRow) else value


class Spec(Node):
    """A spec file: a model, and optionally how to train it and what the paper says of it."""

    version: Version
    """Version of the spec language."""
    model: Annotated[ModelField, Short({"type": "string", "description": "The name or path of a spec."})] = Field(
        examples=["t2t_vit_14"]
    )
    """The model; in a file, also the name of another spec, or its path seen from this one, whose model is taken."""
    weights: WeightsField | None = Field(default=None, examples=["81.5_T2T_ViT_14.pth.tar"])
    """Weights that training and export start from."""
    paper: Annotated[tuple[PaperRow, ...], Listed, BeforeValidator(_one_row), OneOrMany()] = Field(
        default=(), examples=[{"table": 1, "params": "21.5M", "macs": "4.8G", "top1": 81.5}]
    )
    """The paper's figures for the model, one row or a list of rows, one for each table that has it."""
    train: TrainSpec | None = Field(default=None, examples=[{"epochs": 15}])
    """The recipe; left out, one that suits small data."""


class SearchSpec(Node):
    """A search file: what is searched, within what budget, and by what proxy."""

    version: Version
    """Version of the spec language."""
    search: Search = Field(
        examples=[{"base": "t2t_vit_14", "budget": {"macs": "5G"}, "space": {"backbone.depth": {"fill": [0.7, 1.0]}}}]
    )
    """What is searched."""
