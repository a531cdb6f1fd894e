"""The roots of the spec language: what a whole file says."""

from pydantic import Field

from t2tbuild.spec.base import Count, Node, Version
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.search import Search
from t2tbuild.spec.train import TrainSpec


class PaperRow(Node):
    """What the paper prints for this model, to be shown beside what we count."""

    table: int | None = Field(default=None, ge=1, le=7)
    """Number of the paper's table; absent where the figures are those of the released code."""
    params: Count | None = Field(default=None, examples=["21.5M"])
    """Parameters as printed."""
    macs: Count | None = Field(default=None, examples=["4.8G"])
    """Multiply-adds as printed."""
    top1: int | float | None = Field(default=None, ge=0, le=100)
    """ImageNet top-1 accuracy as printed, in percent."""
    note: str | None = None
    """Where the paper and the released code differ."""


class Spec(Node):
    """A spec file: a model, and optionally how to train it and what the paper says of it."""

    version: Version
    """Version of the spec language."""
    model: ModelSpec
    """The model; in a file, also the name or path of another spec, whose model is taken."""
    paper: PaperRow | None = None
    """The paper's figures for the model."""
    train: TrainSpec | None = None
    """The recipe; left out, one that suits small data."""


class SearchSpec(Node):
    """A search file."""

    version: Version
    """Version of the spec language."""
    search: Search
    """What is searched."""
