"""The model section of a spec: a tokenizer, which turns an image into tokens, and a backbone, which reads them.

Few dials, the rest derived: strides, grids, token counts and head widths are properties, never fields.
Source: Yuan et al., "Tokens-to-Token ViT", ICCV 2021, Section 3 and Table 1.
"""

from typing import Annotated, Literal, Self

from pydantic import Field, model_validator

from t2tbuild.parts import Grid
from t2tbuild.spec.backbone import BackboneField
from t2tbuild.spec.base import Listed, Node, default_kind, rule
from t2tbuild.spec.tokenizer import TokenizerField

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class _Classifier(Node):
    """What every model has: a name, an image, classes."""

    kind: Literal["vit", "timm"]
    """Whose model it is."""
    name: str = Field(pattern=NAME_PATTERN, examples=["t2t_vit_14"])
    """What the model is called in tables and file names: letters, digits, '.', '_' and '-', at most 64."""
    image_size: Annotated[int | tuple[int, int], Listed] = Field(default=224, examples=[224, [192, 256]])
    """Pixels of the square image's side, or [height, width]."""
    in_chans: int = Field(default=3, ge=1, le=1024)
    """Channels of the image."""
    num_classes: int = Field(default=1000, ge=1, le=1_000_000)
    """Classes of the head."""

    @model_validator(mode="after")
    def _check_image(self) -> Self:
        if not all(1 <= side <= 16384 for side in self.image):
            raise rule("image_size", f"image_size must be from 1 to 16384 pixels, got {self.image}", "write 224")
        return self

    @property
    def image(self) -> Grid:
        """Height and width of the image in pixels."""
        return Grid(*((self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size))


class ModelSpec(_Classifier):
    """A model of ours, T2T-ViT or ViT: image in, logits out."""

    kind: Literal["vit"] = "vit"
    tokenizer: TokenizerField
    """How the image becomes tokens."""
    backbone: BackboneField
    """What reads the tokens."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        below, where = self.image, "the image"
        for index, (window, grid) in enumerate(zip(self.tokenizer.windows, self.grids, strict=True)):
            if not grid.tokens:
                raise rule(
                    "image_size",
                    f"image_size {self.image} leaves no token at stage {index}: a patch of {window.patch_size} with "
                    f"padding {window.pad} does not fit {where} of {below}",
                    "a larger image_size or a smaller patch_size",
                )
            below, where = grid, "the grid"
        return self

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The token grid after each soft split."""
        return self.tokenizer.grids(self.image)

    @property
    def tokens(self) -> int:
        """Tokens that the backbone reads: the last grid and the class token."""
        return self.grids[-1].tokens + 1


Argument = bool | int | float | str | None


_NOT_ARGUMENTS = {
    "num_classes": "write model.num_classes",
    "in_chans": "write model.in_chans",
    "img_size": "write model.image_size",
    "features_only": "a spec's model is a classifier",
    "pretrained": "write weights: FILE",
    "checkpoint_path": "write weights: FILE",
}


class TimmModel(_Classifier):
    """A model of timm by its name there: the CNN and DeiT rows of the paper's tables, and teachers."""

    kind: Literal["timm"] = "timm"
    args: dict[str, Argument | Annotated[tuple[Argument, ...], Listed]] = Field(
        default={}, examples=[{"channels": [96, 192, 384, 768]}]
    )
    """Further arguments of timm.create_model."""

    @model_validator(mode="after")
    def _check_args(self) -> Self:
        for name, hint in _NOT_ARGUMENTS.items():
            if name in self.args:
                raise rule(("args", name), f"args cannot hold {name}", hint)
        return self


AnyModel = ModelSpec | TimmModel
"""Any model that a spec may hold."""

ModelField = Annotated[AnyModel, Field(discriminator="kind"), default_kind("vit")]
"""Any model as a field of a spec: without `kind` it is one of ours."""
