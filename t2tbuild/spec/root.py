"""The roots of the spec language: the contents of a whole file."""

from collections.abc import Iterator
from typing import Annotated

from pydantic import BeforeValidator, Field

from t2tbuild.spec.base import Count, ListAsTuple, Node, OneOrMany, Shorthand, Version, Violation, rule, unit
from t2tbuild.spec.extension.registry import name_of, unnamed_extensions
from t2tbuild.spec.model import ModelField
from t2tbuild.spec.search import Search
from t2tbuild.spec.train import TrainSpec
from t2tbuild.spec.weights import WeightsField

Extensions = Annotated[tuple[Annotated[str, Field(min_length=1)], ...], ListAsTuple]
Percent = Annotated[int | float, Field(ge=0, le=100)]


class PaperRow(Node):
    """The figures of a row of the paper's tables for this model. They are shown beside our counts."""

    table: int | None = Field(default=None, ge=1, le=7, examples=[1])
    """Number of the paper's table; absent if the figures are those of the released code."""
    row: int | None = Field(default=None, ge=1, examples=[6])
    """Number of the row in that table; it sets the order."""
    variant: str | None = Field(default=None, examples=["distilled"])
    """What distinguishes the row from others of the same model."""
    params: Count | None = Field(default=None, examples=["21.5M"], json_schema_extra=unit("parameters"))
    """Parameters, as in the paper."""
    macs: Count | None = Field(default=None, examples=["4.8G"], json_schema_extra=unit("multiply-adds per image"))
    """Multiply-adds, as in the paper."""
    top1: Percent | None = Field(default=None, examples=[81.5], json_schema_extra=unit("percent"))
    """ImageNet top-1 accuracy, as in the paper."""
    cifar10: Percent | None = Field(default=None, examples=[97.5], json_schema_extra=unit("percent"))
    """Top-1 accuracy after transfer to CIFAR-10 (Table 5)."""
    cifar100: Percent | None = Field(default=None, examples=[88.4], json_schema_extra=unit("percent"))
    """Top-1 accuracy after transfer to CIFAR-100 (Table 5)."""
    note: str | None = Field(default=None, examples=["the released code has depth 7"])
    """Differences between the paper and the released code, and why our count differs."""


def _one_row(value: object) -> object:
    return (value,) if isinstance(value, dict | PaperRow) else value


class Root(Node):
    """Fields of every spec file."""

    version: Version
    """Version of the spec language."""
    extensions: Extensions = Field(default=(), max_length=64, examples=[["my_attention.py"]])
    """Python files, or names of installed packages, that define kinds of token attentions, tokenizers, block options or
    backbones. A path is relative to this file. They are code: each file needs your consent."""

    @rule
    def _extensions_are_named(self) -> Iterator[Violation]:
        """The extension of every node is named in `extensions`, so that the spec can be read again."""
        for path, node, source in unnamed_extensions(self, self.extensions):
            message = f"{name_of(node)} is defined by {source}, which extensions does not name"
            yield Violation(path, message, "name it at the top level: extensions: [...]")


class Spec(Root):
    """A spec file: a model, and optionally its training recipe, weights, and the paper's figures."""

    model: Annotated[ModelField, Shorthand({"type": "string", "description": "Name or path of a spec."})] = Field(
        examples=["t2t_vit_14"]
    )
    """The model. In a file, also the name of another spec, or its path relative to this file: its model is used."""
    weights: WeightsField | None = Field(default=None, examples=["81.5_T2T_ViT_14.pth.tar"])
    """Initial weights of training and export."""
    paper: Annotated[tuple[PaperRow, ...], ListAsTuple, BeforeValidator(_one_row), OneOrMany()] = Field(
        default=(), examples=[{"table": 1, "params": "21.5M", "macs": "4.8G", "top1": 81.5}]
    )
    """The paper's figures for the model: one row, or a list with a row for each table."""
    train: TrainSpec | None = Field(default=None, examples=[{"epochs": 15}])
    """The training recipe; left out, one for small data."""


class SearchSpec(Root):
    """A search file: the search space, the budget and the proxy."""

    search: Search = Field(
        examples=[{"base": "t2t_vit_14", "budget": {"macs": "5G"}, "space": {"backbone.depth": {"fill": [0.7, 1.0]}}}]
    )
    """The search."""
