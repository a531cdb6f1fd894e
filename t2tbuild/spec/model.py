"""The model section of a spec: a tokenizer turns an image into tokens, and a backbone processes them.

There are few fields. Strides, grids, token counts and head widths are derived: they are properties.
Source: Yuan et al., "Tokens-to-Token ViT", ICCV 2021, Section 3 and Table 1.
"""

from collections import Counter
from collections.abc import Iterator
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.layout import Grid
from t2tbuild.spec import limits
from t2tbuild.spec.backbone import BackboneField
from t2tbuild.spec.base import KIND_REQUIRED, ListAsTuple, Node, Violation, default_kind, lint, rule, unit
from t2tbuild.spec.label_names import shorten
from t2tbuild.spec.tokenizer import T2TTokenizer, TokenizerField, TransformerAttention
from t2tbuild.spec.units import plural

MANY_TOKENS = 10_000
"""Number of tokens above which full attention is likely a mistake."""

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"

Side = Annotated[int, Field(ge=1, le=16384)]


class _Classifier(Node):
    """The fields of every model: a name, an image and classes."""

    kind: Literal["vit", "timm"]
    """Kind of model."""
    name: str = Field(pattern=NAME_PATTERN, examples=["t2t_vit_14"])
    """Name of the model in tables and file names: letters, digits, '.', '_' and '-', at most 64."""
    image_size: Annotated[Side | tuple[Side, Side], ListAsTuple] = Field(
        default=224, examples=[224, [192, 256]], json_schema_extra=unit("pixels")
    )
    """Pixels of the square image's side, or [height, width]."""
    in_chans: int = Field(default=3, ge=1, le=1024, examples=[3], json_schema_extra=unit("channels"))
    """Channels of the image."""
    num_classes: int = Field(default=1000, ge=1, le=1_000_000, examples=[10], json_schema_extra=unit("classes"))
    """Classes of the head."""
    label_names: Annotated[tuple[Annotated[str, Field(min_length=1)], ...], ListAsTuple] | None = Field(
        default=None, min_length=1, max_length=1_000_000, examples=[["cat", "dog"]]
    )
    """Names of the classes, in the order of the head's outputs; left out, they have numbers. Training takes them from
    the data where it has names, and evaluation finds the classes of other data by them."""

    @rule
    def _one_name_per_class(self) -> Iterator[Violation]:
        names = self.label_names or ()
        if names and len(names) != self.num_classes:
            message = f"label_names must name each of the {self.num_classes:,} classes once, got {len(names):,}"
            yield Violation("label_names", message, f"write num_classes: {len(names)}, or leave label_names out")
        repeated = next((name for name, count in Counter(names).items() if count > 1), None)
        if repeated is not None:
            message = f"label_names must differ, and '{shorten(repeated)}' is there {names.count(repeated)} times"
            yield Violation("label_names", message, "write one name for each class")

    @property
    def image(self) -> Grid:
        """Height and width of the image in pixels."""
        return Grid(*((self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size))


class ModelSpec(_Classifier):
    """A T2T-ViT or a ViT: an image in, logits out."""

    kind: Literal["vit"] = "vit"
    """A T2T-ViT or a ViT; the default."""
    tokenizer: TokenizerField = Field(examples=[{"kind": "patch", "patch_size": 16}])
    """How the image becomes tokens."""
    backbone: BackboneField = Field(examples=[{"depth": 14, "embed_dim": 384, "num_heads": 6, "mlp_ratio": 3}])
    """The transformer blocks that process the tokens."""
    distillation_token: bool = Field(default=False, examples=[True])
    """Whether there is a second learned token beside the class token, as in DeiT (Touvron et al., 2021, Section 4). It
    has a head of its own, which distillation trains on the teacher. At inference the logits of both heads are
    averaged."""

    @rule
    def _tokens_are_left(self) -> Iterator[Violation]:
        below, where = self.image, "the image"
        for index, (window, grid) in enumerate(zip(self.tokenizer.windows, self.grids, strict=True)):
            if not grid.tokens:
                message = (
                    f"image_size {self.image} leaves no token at stage {index}: a patch of {window.patch_size} with "
                    f"padding {window.pad} does not fit {where} of {below}"
                )
                patch_size = ("tokenizer", *self.tokenizer.place_of(index), "patch_size")
                field = "image_size" if "image_size" in self.model_fields_set else patch_size
                yield Violation(field, message, "write a larger image_size or a smaller patch_size")
                return
            below, where = grid, "the grid"

    @property
    def rough_params(self) -> dict[str, float]:
        """The approximate number of parameters by the field that they come from."""
        embed_dim = self.backbone.embed_dim
        return {
            "tokenizer": limits.tokenizer_params(self.tokenizer, self.in_chans, embed_dim),
            "backbone": limits.backbone_params(self.backbone),
            "image_size": float(self.tokens) * embed_dim,  # the position table
            "num_classes": float(self.num_classes) * self.backbone.out_dim * self.prefix_tokens,  # a head each
        }

    @rule
    def _fits_some_machine(self) -> Iterator[Violation]:
        params = self.rough_params
        if sum(params.values()) > limits.MAX_PARAMS:
            message = f"the model would have {limits.format_params(sum(params.values()))}"
            hint = f"the limit is {limits.format_params(limits.MAX_PARAMS)}"
            yield Violation(max(params, key=lambda field: params[field]), message, hint)
            return
        values = limits.largest_activation(self.tokenizer, self.image, self.in_chans, self.backbone, self.tokens)
        if values > limits.MAX_ACTIVATION_VALUES:
            message = f"one image would have an activation of {limits.format_float32_memory(values)} in float32"
            field = "image_size" if "image_size" in self.model_fields_set else "tokenizer"
            yield Violation(field, message, "write a smaller image_size, larger strides or fewer channels")

    @lint
    def _pixels_left_out(self) -> Iterator[Violation]:
        below, what = self.image, "pixels"
        for index, (window, grid) in enumerate(zip(self.tokenizer.windows, self.grids, strict=True)):
            rows, columns = window.left_out(below)
            if rows or columns:
                sides = [f"{plural(rows, 'row')} at the bottom"] * bool(rows)
                sides += [f"{plural(columns, 'column')} at the right"] * bool(columns)
                message = f"no patch of {window} covers {' and '.join(sides)} of the {below} {what}"
                field = ("tokenizer", *self.tokenizer.place_of(index))
                yield Violation(
                    field, message, f"write a larger padding, or a side that the stride {window.stride} divides"
                )
            below, what = grid, "tokens"

    @lint
    def _many_tokens(self) -> Iterator[Violation]:
        hint = "write attention: performer, larger strides or a smaller image_size"
        if isinstance(self.tokenizer, T2TTokenizer):
            for index, (stage, grid) in enumerate(zip(self.tokenizer.stages, self.grids, strict=True)):
                if isinstance(stage.attention, TransformerAttention) and grid.tokens > MANY_TOKENS:
                    yield Violation(("tokenizer", "stages", index, "attention"), _full_attention(grid.tokens, 1), hint)
        if self.tokens > MANY_TOKENS:
            message = _full_attention(self.tokens, max(self.backbone.heads))
            yield Violation("tokenizer", message, "write larger strides or a smaller image_size")

    @property
    def grids(self) -> tuple[Grid, ...]:
        """Token grid after each soft split."""
        return self.tokenizer.grids(self.image)

    @property
    def tokens(self) -> int:
        """Number of tokens of the backbone: the prefix tokens and the last grid."""
        return self.prefix_tokens + self.grids[-1].tokens

    @property
    def prefix_tokens(self) -> int:
        """Number of tokens before those of the image: the class token and, if there is one, the distillation token."""
        return 1 + self.distillation_token


def _full_attention(tokens: int, heads: int) -> str:
    """Return a message with the memory of full attention among many tokens."""
    matrix = limits.format_float32_memory(float(tokens) ** 2 * heads)
    return (
        f"full attention among {tokens:,} tokens: its matrix of {plural(heads, 'head')} takes {matrix} per image "
        "in float32 if a kernel stores it, and its time grows with the square of the tokens"
    )


Argument = bool | int | float | str | None

_FORBIDDEN_ARGUMENTS = {
    "num_classes": "write model.num_classes",
    "in_chans": "write model.in_chans",
    "img_size": "write model.image_size",
    "features_only": "the model of a spec is a classifier",
    "pretrained": "write weights: FILE",
    "checkpoint_path": "write weights: FILE",
}


class TimmModel(_Classifier):
    """A model of timm by its timm name: the CNN and DeiT rows of the paper's tables, and teachers."""

    model_config = KIND_REQUIRED

    kind: Literal["timm"] = "timm"
    """A model of timm."""
    name: str = Field(pattern=NAME_PATTERN, examples=["resnet50"])
    """Name of the model in timm, for example resnet50."""
    args: dict[str, Argument | Annotated[tuple[Argument, ...], ListAsTuple]] = Field(
        default={}, examples=[{"channels": [96, 192, 384, 768]}]
    )
    """Further arguments of timm.create_model."""

    @rule
    def _arguments_of_timm(self) -> Iterator[Violation]:
        for name, hint in _FORBIDDEN_ARGUMENTS.items():
            if name in self.args:
                yield Violation(("args", name), f"args cannot hold {name}", hint)


AnyModel = ModelSpec | TimmModel
"""Any model that a spec may hold."""

ModelField = Annotated[AnyModel, Field(discriminator="kind"), default_kind("vit")]
"""Any model as a field of a spec. Without `kind` it is a T2T-ViT or a ViT."""
