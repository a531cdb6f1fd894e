"""The weights section of a spec: a file of trained weights, and how to adapt them."""

from typing import Annotated

from pydantic import BeforeValidator, Field

from t2tbuild.spec.base import ListAsTuple, Node, Shorthand

LOCAL_DIR = "local-dir:"  # timm's prefix of a folder
RELEASED = "released"
"""In place of a file: the released weights of the model's name. `released:NAME` names others."""
WEIGHT_FILES = ("model.safetensors", "pytorch_model.bin")
"""Names of the file of weights in a folder or repository, in order of preference."""
HF_HUB = "hf-hub:"  # timm's prefix of a repository of the Hugging Face Hub


def is_remote(file: str) -> bool:
    """Return whether weights are named by something else than a path: released weights, or a repository of the Hub.

    A file of such a name is written with its folder: ./released.
    """
    return file == RELEASED or file.startswith((f"{RELEASED}:", HF_HUB))


def name_released(file: str, model: str) -> str:
    """Return `released:MODEL` for `released`, and any other text unchanged."""
    return f"{RELEASED}:{model}" if file == RELEASED else file


Rows = Annotated[int, Field(ge=1)]


class Weights(Node):
    """Trained weights."""

    file: str = Field(min_length=1, examples=["81.5_T2T_ViT_14.pth.tar"])
    """A checkpoint of the authors (.pth.tar), a state dict, safetensors, a checkpoint of mmpretrain, or a folder with
    model.safetensors: timm's local-dir, or a checkpoint of a run. A path is relative to the spec's folder. Or what is
    downloaded once: released (the released weights of the model's name), released:NAME, or hf-hub:ORG/NAME."""
    reset_head: bool | None = Field(default=None, examples=[True])
    """Whether the head is randomly initialised instead of loaded. Left out, training does this, with a message, if the
    head in the file has another number of classes."""
    grid: Annotated[tuple[Rows, Rows], ListAsTuple] | None = Field(default=None, examples=[[12, 16]])
    """Rows and columns of the position embedding in the file. Needed only if they differ and the file does not hold
    them."""


def _by_file(value: object) -> object:
    return {"file": value} if isinstance(value, str) else value


WeightsField = Annotated[Weights, BeforeValidator(_by_file), Shorthand({"type": "string", "minLength": 1})]
