"""The model section of a spec: a tokenizer, which turns an image into tokens, and a backbone, which reads them.

Few dials, the rest derived: strides, grids, token counts and head widths are properties, never fields.
Source: Yuan et al., "Tokens-to-Token ViT", ICCV 2021, Section 3 and Table 1.
"""

from collections.abc import Iterator
from typing import Annotated, Any, Literal, Self

from pydantic import (
    BeforeValidator,
    Field,
    SerializerFunctionWrapHandler,
    model_serializer,
    model_validator,
)

from t2tbuild.parts import Grid
from t2tbuild.spec.base import Listed, Node, rule

NAME_PATTERN = r"^[A-Za-z0-9][A-Za-z0-9._-]{0,63}$"


class _NamedAttention(Node):
    """A token attention that may be written as its bare name when every other field has its default."""

    @model_serializer(mode="wrap")
    def _leave_out(self, handler: SerializerFunctionWrapHandler) -> Any:
        fields = handler(self)
        short = all(fields[key] == info.default for key, info in type(self).model_fields.items() if key in fields)
        return fields["kind"] if short else fields


class TransformerAttention(_NamedAttention):
    """Softmax attention among all tokens of the stage, one head (the paper's T2T-ViT_t)."""

    kind: Literal["transformer"] = "transformer"


class PerformerAttention(_NamedAttention):
    """Attention through positive random features, linear in the number of tokens (FAVOR+, Choromanski et al. 2021)."""

    kind: Literal["performer"] = "performer"
    kernel_ratio: int | float = Field(default=0.5, gt=0, le=8)
    """Random features per channel of token_dim; the paper's models use 0.5, i.e. 32 features for 64 channels."""
    dropout: int | float = Field(default=0.1, ge=0, lt=1)
    """Dropout after the projection and after the MLP; the released code fixes it at 0.1."""


def _attention_by_name(value: object) -> object:
    return {"kind": value} if isinstance(value, str) else value


TokenAttention = Annotated[
    PerformerAttention | TransformerAttention,
    Field(discriminator="kind"),
    BeforeValidator(_attention_by_name),
]


class Stage(Node):
    """One soft split: overlapping patches of the grid below are concatenated into tokens (Equation 2 of the paper).

    All stages but the last are followed by a token attention; the last is projected to the backbone's embed_dim.
    """

    patch_size: int = Field(ge=1, le=256, examples=[7])
    """Side of a square patch, in pixels for the first stage and in tokens of the stage before for the others."""
    overlap: int = Field(default=0, ge=0, examples=[3])
    """By how much neighbouring patches overlap; the stride is patch_size - overlap."""
    padding: int | None = Field(default=None, ge=0)
    """Zeros added on each side of the grid; left out, ceil(overlap / 2)."""
    token_dim: int | None = Field(default=None, ge=1, le=65536, examples=[64])
    """Channels that the token attention gives out; absent in the last stage."""
    attention: TokenAttention | None = None
    """The token attention: performer or transformer; absent in the last stage."""

    @property
    def stride(self) -> int:
        return self.patch_size - self.overlap

    @property
    def pad(self) -> int:
        return (self.overlap + 1) // 2 if self.padding is None else self.padding

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.overlap >= self.patch_size:
            raise rule(
                "overlap",
                f"overlap must be below patch_size, got {self.overlap} and {self.patch_size}",
                f"write at most {self.patch_size - 1}",
            )
        if self.pad >= self.patch_size:
            raise rule(
                "padding",
                f"padding must be below patch_size, got {self.pad} and {self.patch_size}",
                "a patch of nothing but zeros carries no pixel",
            )
        if isinstance(self.attention, PerformerAttention) and self.token_dim is not None:
            features = int(self.token_dim * self.attention.kernel_ratio)
            if features < 1:
                raise rule(
                    ("attention", "kernel_ratio"),
                    f"token_dim * kernel_ratio leaves no random feature, got {self.token_dim} * "
                    f"{self.attention.kernel_ratio}",
                    f"write at least {1 / self.token_dim:g}",
                )
        return self

    def grid(self, below: Grid) -> Grid:
        """The grid of tokens that this soft split makes of the grid below; 0 where the patch does not fit."""
        return Grid(*(max(0, (side + 2 * self.pad - self.patch_size) // self.stride + 1) for side in below))


class T2TTokenizer(Node):
    """Tokens-to-token: soft splits with token attentions between them (Section 3.1 of the paper)."""

    kind: Literal["t2t"] = "t2t"
    stages: Annotated[tuple[Stage, ...], Listed] = Field(min_length=1, max_length=6)
    """The soft splits, from the image upwards."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        last = len(self.stages) - 1
        for index, stage in enumerate(self.stages):
            for field in ("token_dim", "attention"):
                given = getattr(stage, field) is not None
                if index < last and not given:
                    raise rule(
                        ("stages", index, field),
                        f"stage {index} has no {field}; every stage but the last is followed by a token attention",
                        "write token_dim: 64, attention: performer",
                    )
                if index == last and given:
                    raise rule(
                        ("stages", index, field),
                        f"the last stage takes no {field}; it is projected to the backbone's embed_dim",
                        f"remove {field}",
                    )
        return self

    def grids(self, image: Grid) -> tuple[Grid, ...]:
        """The token grid after each stage, for an image of the given size in pixels."""
        grids = []
        for stage in self.stages:
            image = stage.grid(image)
            grids.append(image)
        return tuple(grids)

    def widths(self, in_chans: int) -> tuple[int, ...]:
        """Channels of each stage's tokens after the soft split: patch_size^2 times the channels below."""
        below = (in_chans, *(stage.token_dim or 0 for stage in self.stages))
        return tuple(channels * stage.patch_size**2 for channels, stage in zip(below, self.stages, strict=False))


class PlainBackbone(Node):
    """A deep-narrow vision transformer: pre-norm blocks of one width (Section 3.2 of the paper)."""

    kind: Literal["plain"] = "plain"
    depth: int = Field(ge=1, le=1000, examples=[14])
    """Number of transformer blocks."""
    embed_dim: int = Field(ge=1, le=65536, examples=[384])
    """Channels of every token."""
    num_heads: Annotated[int | tuple[int, ...] | None, Listed] = Field(default=None, examples=[6])
    """Attention heads of every block, or a list with one number per block. Give this or head_dim."""
    head_dim: int | None = Field(default=None, ge=1, examples=[64])
    """Channels of a head; the number of heads then follows embed_dim. Give this or num_heads."""
    mlp_ratio: Annotated[int | float | tuple[int | float, ...], Listed] = Field(default=4, examples=[3])
    """Hidden width of a block's MLP over embed_dim, or a list with one ratio per block."""
    qkv_bias: bool = False
    """Whether queries, keys and values have a bias; the T2T-ViTs have none."""
    position: Literal["sinusoid", "learned"] = "sinusoid"
    """Position embedding: the fixed sinusoid table of the T2T-ViTs, or a learned one as in ViT."""
    drop_path: int | float = Field(default=0, ge=0, lt=1, examples=[0.1])
    """Stochastic depth in training: the last block's chance of being skipped, rising linearly from 0 at the first."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_heads is not None and self.head_dim is not None:
            raise rule("head_dim", "num_heads and head_dim say the same thing twice", "keep one of them")
        if self.num_heads is None and self.head_dim is None:
            raise rule("num_heads", "num_heads is missing", "write num_heads: 6, or head_dim: 64")
        if self.head_dim is not None and self.embed_dim % self.head_dim:
            raise rule(
                "head_dim",
                f"embed_dim must be divisible by head_dim, got {self.embed_dim} and {self.head_dim}",
                f"nearest: {_nearest_divisors(self.embed_dim, self.head_dim)}",
            )
        for field in ("num_heads", "mlp_ratio"):
            values = getattr(self, field)
            if isinstance(values, tuple) and len(values) != self.depth:
                raise rule(field, f"{field} lists {len(values)} values for {self.depth} blocks", "one per block")
        given = self.num_heads if isinstance(self.num_heads, tuple) else (self.num_heads,)
        for heads in {heads for heads in given if heads is not None}:
            if heads < 1 or self.embed_dim % heads:
                raise rule(
                    "num_heads",
                    f"embed_dim must be divisible by num_heads, got {self.embed_dim} and {heads}",
                    f"nearest: {_nearest_divisors(self.embed_dim, heads)}",
                )
        for ratio in set(self.mlp_ratios):
            if not 0 < ratio <= 64 or int(self.embed_dim * ratio) < 1:
                raise rule("mlp_ratio", f"mlp_ratio must be above 0 and at most 64, got {ratio}", "write 2, 3 or 4")
        return self

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads, one number per block."""
        if self.head_dim is not None:
            return (self.embed_dim // self.head_dim,) * self.depth
        assert self.num_heads is not None  # the validator wants one of the two
        return self.num_heads if isinstance(self.num_heads, tuple) else (self.num_heads,) * self.depth

    @property
    def mlp_ratios(self) -> tuple[int | float, ...]:
        """Hidden width of the MLP over embed_dim, one ratio per block."""
        return self.mlp_ratio if isinstance(self.mlp_ratio, tuple) else (self.mlp_ratio,) * self.depth

    @property
    def mlp_dims(self) -> tuple[int, ...]:
        """Hidden width of the MLP, one per block."""
        return tuple(int(self.embed_dim * ratio) for ratio in self.mlp_ratios)

    @property
    def drop_paths(self) -> tuple[float, ...]:
        """Drop-path rate, one per block: linear from 0 to `drop_path`."""
        steps = max(1, self.depth - 1)
        return tuple(self.drop_path * block / steps for block in range(self.depth))


def _nearest_divisors(number: int, wanted: int) -> str:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return ", ".join(str(d) for d in sorted(sorted(divisors, key=lambda d: abs(d - wanted))[:2]))


class ModelSpec(Node):
    """A model: image in, logits out."""

    name: str = Field(pattern=NAME_PATTERN, examples=["t2t_vit_14"])
    """What the model is called in tables and file names: letters, digits, '.', '_' and '-', at most 64."""
    image_size: Annotated[int | tuple[int, int], Listed] = Field(default=224, examples=[224, [192, 256]])
    """Pixels of the square image's side, or [height, width]."""
    in_chans: int = Field(default=3, ge=1, le=1024)
    """Channels of the image."""
    num_classes: int = Field(default=1000, ge=1, le=1_000_000)
    """Classes of the head."""
    tokenizer: T2TTokenizer
    """How the image becomes tokens."""
    backbone: PlainBackbone
    """What reads the tokens."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not all(1 <= side <= 16384 for side in self.image):
            raise rule("image_size", f"image_size must be from 1 to 16384 pixels, got {self.image}", "write 224")
        below, where = self.image, "the image"
        for index, grid in enumerate(self.grids):
            if not grid.tokens:
                stage = self.tokenizer.stages[index]
                raise rule(
                    "image_size",
                    f"image_size {self.image} leaves no token at stage {index}: a patch of {stage.patch_size} with "
                    f"padding {stage.pad} does not fit {where} of {below}",
                    "a larger image_size or a smaller patch_size",
                )
            below, where = grid, "the grid"
        return self

    @property
    def image(self) -> Grid:
        """Height and width of the image in pixels."""
        return Grid(*((self.image_size,) * 2 if isinstance(self.image_size, int) else self.image_size))

    @property
    def grids(self) -> tuple[Grid, ...]:
        """The token grid after each soft split."""
        return self.tokenizer.grids(self.image)

    @property
    def tokens(self) -> int:
        """Tokens that the backbone reads: the last grid and the class token."""
        return self.grids[-1].tokens + 1

    @property
    def token_attentions(self) -> Iterator[tuple[Stage, Grid, int]]:
        """Each stage that has a token attention, with its grid and its tokens' channels after the soft split."""
        widths = self.tokenizer.widths(self.in_chans)
        return zip(self.tokenizer.stages[:-1], self.grids, widths, strict=False)
