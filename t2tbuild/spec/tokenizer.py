"""Tokenizers convert an image to tokens.

`t2t` is the paper's (Section 3.1), `conv` its ablation with convolutions (T2T-ViT_c, Table 7), `patch` the hard split
of the ViT. All three slide windows over the grid of the stage before.
"""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from typing import Annotated, Literal

from pydantic import Field

from t2tbuild.layout import Grid
from t2tbuild.spec.base import (
    KIND_REQUIRED,
    ListAsTuple,
    Node,
    Shorthand,
    ShorthandNode,
    Violation,
    default_kind,
    kind_shorthand,
    lint,
    rule,
    unit,
)


class TransformerAttention(ShorthandNode):
    """Softmax attention among all tokens of the stage, one head (the paper's T2T-ViT_t)."""

    model_config = KIND_REQUIRED

    kind: Literal["transformer"] = "transformer"
    """Softmax attention; the cost is quadratic in the number of tokens."""

    def describe(self, _token_dim: int) -> str:
        """Describe the attention of a stage in the diagram."""
        return "softmax, one head"


class PerformerAttention(ShorthandNode):
    """Attention through positive random features, linear in the number of tokens (FAVOR+, Choromanski et al. 2021)."""

    model_config = KIND_REQUIRED

    kind: Literal["performer"] = "performer"
    """Attention through random features; the cost is linear in the number of tokens."""
    kernel_ratio: int | float = Field(default=0.5, gt=0, le=8, examples=[0.5])
    """Random features per channel of token_dim; the paper uses 0.5, which is 32 features for 64 channels."""
    dropout: int | float = Field(default=0.1, ge=0, lt=1, examples=[0.1])
    """Dropout after the projection and after the MLP; 0.1 in the released code."""

    def features(self, token_dim: int) -> int:
        """Return the number of random features."""
        return int(token_dim * self.kernel_ratio)

    def describe(self, token_dim: int) -> str:
        """Describe the attention of a stage in the diagram."""
        return f"{self.features(token_dim)} random features"


TokenAttention = Annotated[
    PerformerAttention | TransformerAttention,
    Field(discriminator="kind"),
    kind_shorthand,
    Shorthand({"enum": ["performer", "transformer"]}),
]


class Window(Node):
    """Overlapping square patches of the input grid, one token each (Equation 2 of the paper)."""

    patch_size: int = Field(ge=1, le=256, examples=[7], json_schema_extra=unit("pixels or tokens"))
    """Side of a square patch: in pixels for the first stage, in tokens of the stage before for the others."""
    overlap: int = Field(default=0, ge=0, examples=[3], json_schema_extra=unit("pixels or tokens"))
    """Overlap of neighbouring patches; the stride is patch_size - overlap."""
    padding: int | None = Field(default=None, ge=0, examples=[2], json_schema_extra=unit("pixels or tokens"))
    """Zero padding on each side of the grid; left out, ceil(overlap / 2)."""
    token_dim: int | None = Field(default=None, ge=1, le=65536, examples=[64], json_schema_extra=unit("channels"))
    """Output channels of the stage. The last stage has none: its output has the backbone's embed_dim."""

    @property
    def stride(self) -> int:
        return self.patch_size - self.overlap

    @property
    def pad(self) -> int:
        return (self.overlap + 1) // 2 if self.padding is None else self.padding

    def __str__(self) -> str:
        return f"{self.patch_size}x{self.patch_size}, overlap {self.overlap}"

    @rule
    def _overlap_below_patch_size(self) -> Iterator[Violation]:
        if self.overlap >= self.patch_size:
            message = f"overlap must be below patch_size, got {self.overlap} and {self.patch_size}"
            yield Violation("overlap", message, f"write at most {self.patch_size - 1}")

    @rule
    def _padding_below_patch_size(self) -> Iterator[Violation]:
        if self.pad >= self.patch_size > self.overlap:
            message = f"padding must be below patch_size, got {self.pad} and {self.patch_size}"
            yield Violation(
                "padding", message, f"write at most {self.patch_size - 1}, otherwise a patch holds only zeros"
            )

    def left_out(self, grid: Grid) -> Grid:
        """Return the rows at the bottom and the columns at the right of the input grid that no patch covers."""
        return Grid(*(max(0, (side + 2 * self.pad - self.patch_size) % self.stride - self.pad) for side in grid))

    def grid(self, grid: Grid) -> Grid:
        """Return the output grid for an input grid; a side is 0 if the patch does not fit."""
        reach, stride = 2 * self.pad - self.patch_size, self.stride
        return Grid(max(0, (grid.height + reach) // stride + 1), max(0, (grid.width + reach) // stride + 1))


class Stage(Window):
    """One soft split: overlapping patches of the input grid are concatenated into tokens (Equation 2 of the paper).

    A token attention follows each stage except the last, which is projected to the backbone's embed_dim.
    """

    attention: TokenAttention | None = Field(default=None, examples=["performer"])
    """Token attention of the stage. The last stage has none."""

    @rule
    def _random_features(self) -> Iterator[Violation]:
        if isinstance(self.attention, PerformerAttention) and self.token_dim is not None:
            ratio = self.attention.kernel_ratio
            if self.attention.features(self.token_dim) < 1:
                message = f"token_dim * kernel_ratio leaves no random feature, got {self.token_dim} * {ratio}"
                yield Violation(("attention", "kernel_ratio"), message, f"write at least {1 / self.token_dim:g}")

    @rule
    def _attention_fits_token_dim(self) -> Iterator[Violation]:
        """What the node of an extension's token attention requires of token_dim."""
        check = getattr(self.attention, "check_token_dim", None)
        if check is not None and self.token_dim is not None:
            for one in check(self.token_dim):
                yield one._replace(field=("attention", *one.path))

    @lint
    def _hard_split(self) -> Iterator[Violation]:
        if self.overlap == 0 and self.patch_size > 1:
            message = f"patches of {self.patch_size} without overlap are a hard split"
            yield Violation("overlap", message, f"a soft split overlaps; write overlap: {max(1, self.patch_size // 3)}")


class ConvStage(Window):
    """One convolution with bias: kernel patch_size, stride patch_size - overlap."""


class BaseTokenizer(Node, ABC):
    """Base class of tokenizers: a sequence of windows, the first over the image."""

    @property
    @abstractmethod
    def windows(self) -> Sequence[Window]:
        """Windows, the first over the image."""

    @property
    @abstractmethod
    def summary(self) -> str:
        """Short name of the tokenizer for tables."""

    def place_of(self, _window: int) -> tuple[str | int, ...]:
        """Return the path of a window, relative to the tokenizer."""
        return ()

    def grids(self, image: Grid) -> tuple[Grid, ...]:
        """Return the token grid after each window, for an image of the given size in pixels."""
        grids = []
        for window in self.windows:
            image = window.grid(image)
            grids.append(image)
        return tuple(grids)

    def channels_below(self, in_chans: int) -> tuple[int, ...]:
        """Return the input channels of each window."""
        return (in_chans, *(window.token_dim or 0 for window in self.windows[:-1]))


_EXAMPLE = [
    {"patch_size": 7, "overlap": 3, "token_dim": 64, "attention": "performer"},
    {"patch_size": 3, "overlap": 1},
]


class T2TTokenizer(BaseTokenizer):
    """Tokens-to-token: soft splits with token attentions between them (Section 3.1 of the paper)."""

    kind: Literal["t2t"] = "t2t"
    """Soft splits with token attentions between them; the default."""
    stages: Annotated[tuple[Stage, ...], ListAsTuple] = Field(min_length=1, max_length=6, examples=[_EXAMPLE])
    """Soft splits, the first over the image."""

    @rule
    def _last_stage(self) -> Iterator[Violation]:
        every = "every stage except the last is followed by a token attention"
        yield from _require_all_but_last(self.stages, "token_dim", every, "write token_dim: 64")
        yield from _require_all_but_last(self.stages, "attention", every, "write attention: performer")

    @property
    def windows(self) -> Sequence[Stage]:
        return self.stages

    def place_of(self, window: int) -> tuple[str | int, ...]:
        return ("stages", window)

    @property
    def summary(self) -> str:
        attended = [(stage.attention.kind, stage.token_dim) for stage in self.stages if stage.attention]
        return " ".join(f"{kind[0].upper()}{token_dim}" for kind, token_dim in attended)

    def widths(self, in_chans: int) -> tuple[int, ...]:
        """Return the channels of the tokens after each soft split: patch_size^2 times the input channels."""
        below = self.channels_below(in_chans)
        return tuple(channels * stage.patch_size**2 for channels, stage in zip(below, self.stages, strict=True))


class ConvTokenizer(BaseTokenizer):
    """A stack of convolutions without activations (the paper's T2T-ViT_c: kernels 7, 3, 3, strides 4, 2, 2)."""

    model_config = KIND_REQUIRED

    kind: Literal["conv"] = "conv"
    """A stack of convolutions."""
    stages: Annotated[tuple[ConvStage, ...], ListAsTuple] = Field(
        min_length=1,
        max_length=6,
        examples=[[{"patch_size": 7, "overlap": 3, "token_dim": 64}, {"patch_size": 3, "overlap": 1}]],
    )
    """Convolutions, the first over the image."""

    @rule
    def _last_stage(self) -> Iterator[Violation]:
        every = "every convolution except the last has token_dim"
        yield from _require_all_but_last(self.stages, "token_dim", every, "write token_dim: 64")

    @property
    def windows(self) -> Sequence[ConvStage]:
        return self.stages

    def place_of(self, window: int) -> tuple[str | int, ...]:
        return ("stages", window)

    @property
    def summary(self) -> str:
        return " ".join(f"C{stage.token_dim}" for stage in self.stages if stage.token_dim) or "C"


class PatchTokenizer(BaseTokenizer):
    """The hard split of the ViT: non-overlapping patches, each projected to embed_dim."""

    model_config = KIND_REQUIRED

    kind: Literal["patch"] = "patch"
    """Non-overlapping patches, as in ViT."""
    patch_size: int = Field(ge=1, le=256, examples=[16], json_schema_extra=unit("pixels"))
    """Side of a square patch in pixels."""

    @property
    def windows(self) -> Sequence[Window]:
        return (Window(patch_size=self.patch_size),)

    @property
    def summary(self) -> str:
        return f"patch {self.patch_size}"


Tokenizer = T2TTokenizer | ConvTokenizer | PatchTokenizer
TokenizerField = Annotated[Tokenizer, Field(discriminator="kind"), default_kind("t2t")]


def _require_all_but_last(stages: Sequence[Window], field: str, every: str, write: str) -> Iterator[Violation]:
    """Yield a violation for each stage before the last without `field`, and for a last stage with it."""
    for index, stage in enumerate(stages):
        last, given = index == len(stages) - 1, getattr(stage, field) is not None
        if last and given:
            message = f"the last stage takes no {field}; it is projected to the backbone's embed_dim"
            yield Violation(("stages", index, field), message, f"remove {field}")
        if not last and not given:
            yield Violation(("stages", index, field), f"stage {index} has no {field}; {every}", write)
