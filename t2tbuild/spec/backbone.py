"""Backbones: what reads the tokens, and the options that the paper takes over from CNNs (Section 3.2, Table 6)."""

import math
from abc import ABC, abstractmethod
from typing import Annotated, Literal, Self, TypeVar

from pydantic import Field, model_validator

from t2tbuild.spec.base import Listed, Node, default_kind, rule

T = TypeVar("T", int, int | float)


class SqueezeExcite(Node):
    """Channel attention after each block's attention (SENet, Hu et al. 2018; the paper's T2T-ViT-SE)."""

    reduction: int = Field(default=16, ge=1)
    """Width of the block over the width of the bottleneck."""


class Ghost(Node):
    """Half of the maps made from the other half by a scale (GhostNet, Han et al. 2020; the paper's T2T-ViT-Ghost)."""

    attention: bool = True
    """Queries, keys and values: half of their channels are computed, the others are scaled copies."""
    mlp: bool = True
    """Hidden layer of the MLP: as many channels as the block are computed, the others are scaled copies."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if not (self.attention or self.mlp):
            raise rule("", "ghost is switched off in attention and in mlp", "remove ghost")
        return self


class BaseBackbone(Node, ABC):
    """What every backbone takes, and what follows for each of its blocks."""

    num_heads: Annotated[int | tuple[int, ...] | None, Listed] = Field(default=None, examples=[6])
    """Attention heads of every block, or a list with one number per block. Give this or head_dim."""
    head_dim: int | None = Field(default=None, ge=1, examples=[64])
    """Channels of a head; the number of heads then follows the width. Give this or num_heads."""
    mlp_ratio: Annotated[int | float | tuple[int | float, ...], Listed] = Field(default=4, examples=[3])
    """Hidden width of a block's MLP over the block's width, or a list with one ratio per block."""
    qkv_bias: bool = False
    """Whether queries, keys and values have a bias; the T2T-ViTs have none."""
    position: Literal["sinusoid", "learned"] = "sinusoid"
    """Position embedding: the fixed sinusoid table of the T2T-ViTs, or a learned one as in ViT."""
    drop_path: int | float = Field(default=0, ge=0, lt=1, examples=[0.1])
    """Stochastic depth in training: the last block's chance of being skipped, rising linearly from 0 at the first."""
    squeeze_excite: SqueezeExcite | None = None
    """Squeeze-and-excitation after each attention."""
    ghost: Ghost | None = None
    """Ghost operations in attention and MLP."""

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Channels of the tokens that each block reads."""

    @property
    @abstractmethod
    def out_dim(self) -> int:
        """Channels of the tokens that the last norm and the head read."""

    @model_validator(mode="after")
    def _check(self) -> Self:
        if self.num_heads is not None and self.head_dim is not None:
            raise rule("head_dim", "num_heads and head_dim say the same thing twice", "keep one of them")
        if self.num_heads is None and self.head_dim is None:
            raise rule("num_heads", "num_heads is missing", "write num_heads: 6, or head_dim: 64")
        blocks = len(self.widths)
        for field in ("num_heads", "mlp_ratio"):
            values = getattr(self, field)
            if isinstance(values, tuple) and len(values) != blocks:
                raise rule(field, f"{field} lists {len(values)} values for {blocks} blocks", "one per block")
        given, value = ("num_heads", self.num_heads) if self.head_dim is None else ("head_dim", self.head_dim)
        assert value is not None  # one of the two is there
        wanted = _each(value, blocks)
        for width, divisor in dict.fromkeys(zip(self.widths, wanted, strict=True)):
            if divisor < 1 or width % divisor:
                whose = "embed_dim" if self._one_width else f"the width {width} of a block"
                raise rule(
                    given,
                    f"{whose} must be divisible by {given}, got {width} and {divisor}",
                    f"nearest: {_nearest_divisors(math.gcd(*self.widths), divisor)}",
                )
        for width, ratio in dict.fromkeys(zip(self.widths, self.mlp_ratios, strict=True)):
            if not 0 < ratio <= 64 or int(width * ratio) < 1:
                raise rule("mlp_ratio", f"mlp_ratio must be above 0 and at most 64, got {ratio}", "write 2, 3 or 4")
        self._check_options()
        return self

    def _check_options(self) -> None:
        if self.squeeze_excite and self.squeeze_excite.reduction > min(self.widths):
            raise rule(
                ("squeeze_excite", "reduction"),
                f"a width of {min(self.widths)} over a reduction of {self.squeeze_excite.reduction} leaves no channel",
                f"write at most {min(self.widths)}",
            )
        if self.ghost and self.ghost.attention and any(width % 2 for width in self.widths):
            odd = next(width for width in self.widths if width % 2)
            raise rule(
                "ghost",
                f"ghost attention computes half of the channels, which an odd width has not, got {odd}",
                "even widths, or ghost: {attention: false}",
            )
        if self.ghost and self.ghost.mlp and any(ratio != int(ratio) for ratio in self.mlp_ratios):
            part = next(ratio for ratio in self.mlp_ratios if ratio != int(ratio))
            raise rule(
                "mlp_ratio", f"a ghost MLP needs a whole mlp_ratio, got {part}", "2, 3 or 4, or ghost: {mlp: false}"
            )

    @property
    def _one_width(self) -> bool:
        return len(set(self.widths)) == 1

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads, one number per block."""
        if self.head_dim is not None:
            return tuple(width // self.head_dim for width in self.widths)
        assert self.num_heads is not None  # the validator wants one of the two
        return _each(self.num_heads, len(self.widths))

    @property
    def mlp_ratios(self) -> tuple[int | float, ...]:
        """Hidden width of the MLP over the block's width, one ratio per block."""
        return _each(self.mlp_ratio, len(self.widths))

    @property
    def mlp_dims(self) -> tuple[int, ...]:
        """Hidden width of the MLP, one per block."""
        return tuple(int(width * ratio) for width, ratio in zip(self.widths, self.mlp_ratios, strict=True))

    @property
    def drop_paths(self) -> tuple[float, ...]:
        """Drop-path rate, one per block: linear from 0 to `drop_path`."""
        blocks = len(self.widths)
        return tuple(self.drop_path * block / max(1, blocks - 1) for block in range(blocks))


class _PlainShape(Node):
    kind: Literal["plain"] = "plain"
    depth: int = Field(ge=1, le=1000, examples=[14])
    """Number of transformer blocks."""
    embed_dim: int = Field(ge=1, le=65536, examples=[384])
    """Channels of every token."""


class PlainBackbone(BaseBackbone, _PlainShape):
    """A deep-narrow vision transformer: pre-norm blocks of one width (Section 3.2 of the paper)."""

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.embed_dim,) * self.depth

    @property
    def out_dim(self) -> int:
        return self.embed_dim


class _DenseShape(Node):
    kind: Literal["dense"] = "dense"
    blocks: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], Listed] = Field(
        min_length=1, max_length=64, examples=[[3, 6, 6, 4]]
    )
    """Transformer blocks of each group; a transition between groups halves the width."""
    growth_rate: int = Field(ge=1, le=65536, examples=[64])
    """Channels that each block adds to its input."""
    embed_dim: int = Field(ge=1, le=65536, examples=[128])
    """Channels of the tokens that the first block reads."""


class DenseBackbone(BaseBackbone, _DenseShape):
    """Outputs of blocks concatenated to their inputs (DenseNet, Huang et al. 2017; the paper's T2T-ViT-Dense)."""

    @model_validator(mode="after")
    def _check_depth(self) -> Self:
        if self.depth > 1000:
            raise rule("blocks", f"at most 1000 blocks, got {self.depth}", "write fewer")
        return self

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return sum(self.blocks)

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Widths that the blocks of each group read."""
        groups, start = [], self.embed_dim
        for count in self.blocks:
            groups.append(tuple(start + self.growth_rate * block for block in range(count)))
            start = (start + self.growth_rate * count) // 2
        return tuple(groups)

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(width for group in self.groups for width in group)

    @property
    def out_dim(self) -> int:
        return self.widths[-1] + self.growth_rate


Backbone = PlainBackbone | DenseBackbone
BackboneField = Annotated[Backbone, Field(discriminator="kind"), default_kind("plain")]


def _each(value: T | tuple[T, ...], blocks: int) -> tuple[T, ...]:
    """One value for each block."""
    return value if isinstance(value, tuple) else (value,) * blocks


def _nearest_divisors(number: int, wanted: int) -> str:
    divisors = [d for d in range(1, number + 1) if number % d == 0]
    return ", ".join(str(d) for d in sorted(sorted(divisors, key=lambda d: abs(d - wanted))[:2]))
