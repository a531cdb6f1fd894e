"""The weights section of a spec: a file of trained weights, and what may be done to make them fit."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from t2tbuild.spec.base import Listed, Node, Short

LOCAL_DIR = "local-dir:"  # how timm marks a folder


Rows = Annotated[int, Field(ge=1)]


class Weights(Node):
    """Where trained weights lie."""

    file: str = Field(min_length=1, examples=["81.5_T2T_ViT_14.pth.tar"])
    """A checkpoint of the authors (.pth.tar), a state dict, safetensors, a checkpoint of mmpretrain, or a folder that
    holds model.safetensors: timm's local-dir, or a checkpoint of a run. A path is seen from the spec's own folder."""
    reset_head: bool | None = Field(default=None, examples=[True])
    """Whether the head is left fresh instead of loaded; left out, training does so where the file's head has another
    number of classes, and says it."""
    grid: Annotated[tuple[Rows, Rows], Listed] | None = Field(default=None, examples=[[12, 16]])
    """Rows and columns of the file's position embedding; needed only where they are not equal and the file does not
    say."""


def _by_file(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


WeightsField = Annotated[Weights, BeforeValidator(_by_file), Short({"type": "string", "minLength": 1})]
