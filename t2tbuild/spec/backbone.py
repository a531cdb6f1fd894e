"""Backbones: the transformer blocks, and the options that the paper adopts from CNNs (Section 3.2, Table 6)."""

import math
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Annotated, Literal, TypeVar

from pydantic import BeforeValidator, Field
from pydantic_core import PydanticCustomError

from t2tbuild.spec.base import KIND_REQUIRED, ListAsTuple, Node, Violation, default_kind, lint, rule, unit

T = TypeVar("T", int, int | float)

_BLOCK_LIST = Field(max_length=1000)
Heads = Annotated[int, Field(ge=1)]
Ratio = Annotated[int, Field(gt=0, le=64)] | Annotated[float, Field(gt=0, le=64)]


class SqueezeExcite(Node):
    """Channel attention after each block's attention (SENet, Hu et al. 2018; the paper's T2T-ViT-SE)."""

    reduction: int = Field(default=16, ge=1, le=65536, examples=[16])
    """Width of the block over the width of the bottleneck."""


class Ghost(Node):
    """Half of the channels are scaled copies of the others (GhostNet, Han et al. 2020; the paper's T2T-ViT-Ghost)."""

    attention: bool = True
    """Whether half of the channels of queries, keys and values are scaled copies."""
    mlp: bool = True
    """Whether hidden channels of the MLP beyond the width of the block are scaled copies."""

    @rule
    def _ghost_is_used(self) -> Iterator[Violation]:
        if not (self.attention or self.mlp):
            yield Violation("", "ghost is disabled in attention and in mlp", "remove ghost")


class LayerScale(Node):
    """The option that `layer_scale` means: trained weights per channel at the end of each residual branch."""

    init: int | float = Field(gt=0, le=100)
    """Value of the weights before training."""


def _require_extension(value: object) -> object:
    """Raise an error that names the section `extensions` if options are given and no extension defines one."""
    if value and BaseBackbone.model_fields["options"].annotation == tuple[Node, ...]:
        message, hint = (
            "no extension defines block options",
            "name its file at the top level: extensions: [my_option.py]",
        )
        raise PydanticCustomError("extension-missing", "{message}", {"message": message, "hint": hint})
    return value


class BaseBackbone(Node, ABC):
    """Fields of every backbone, and the values for each of its blocks."""

    num_heads: Annotated[Heads | Annotated[tuple[Heads, ...], _BLOCK_LIST] | None, ListAsTuple] = Field(
        default=None, examples=[6], json_schema_extra=unit("heads")
    )
    """Attention heads of each block, or a list with one number per block. Give this or head_dim."""
    head_dim: int | None = Field(default=None, ge=1, le=65536, examples=[64], json_schema_extra=unit("channels"))
    """Channels of a head; the number of heads follows from the width. Give this or num_heads."""
    mlp_ratio: Annotated[Ratio | Annotated[tuple[Ratio, ...], _BLOCK_LIST], ListAsTuple] = Field(
        default=4, examples=[3]
    )
    """Hidden width of the MLP over the width of the block, or a list with one ratio per block."""
    qkv_bias: bool = False
    """Whether queries, keys and values have a bias; T2T-ViTs have none."""
    position: Literal["sinusoid", "learned"] = "sinusoid"
    """Position embedding: the fixed sinusoid table of T2T-ViTs, or a learned one as in ViT."""
    drop_path: int | float = Field(default=0, ge=0, lt=1, examples=[0.1])
    """Stochastic depth: drop probability of the last block. It rises linearly from 0 at the first block."""
    squeeze_excite: SqueezeExcite | None = Field(default=None, examples=[{"reduction": 16}])
    """Squeeze-and-excitation after each attention."""
    ghost: Ghost | None = Field(default=None, examples=[{}])
    """Ghost operations in attention and MLP."""
    layer_scale: Annotated[int, Field(gt=0, le=100)] | Annotated[float, Field(gt=0, le=100)] | None = Field(
        default=None, examples=[1e-5]
    )
    """LayerScale (CaiT): a trained weight per channel ends each residual branch, with this value before training."""
    options: Annotated[tuple[Node, ...], ListAsTuple, BeforeValidator(_require_extension)] = Field(
        default=(), examples=[[{"kind": "re_attention"}]]
    )
    """Block options of extensions, each with its `kind`, in the order of application."""

    @property
    @abstractmethod
    def widths(self) -> tuple[int, ...]:
        """Input channels of each block."""

    @property
    @abstractmethod
    def unique_widths(self) -> tuple[int, ...]:
        """Distinct widths of the blocks."""

    @property
    @abstractmethod
    def num_blocks(self) -> int:
        """Number of transformer blocks."""

    @property
    @abstractmethod
    def out_dim(self) -> int:
        """Output channels of the last block."""

    @rule
    def _one_of_num_heads_and_head_dim(self) -> Iterator[Violation]:
        if self.num_heads is not None and self.head_dim is not None:
            yield Violation("head_dim", "num_heads and head_dim are both given", "remove one of them")
        if self.num_heads is None and self.head_dim is None:
            yield Violation("", "num_heads is missing", "write num_heads: 6, or head_dim: 64")

    @rule
    def _one_per_block(self) -> Iterator[Violation]:
        for field in ("num_heads", "mlp_ratio"):
            values, blocks = getattr(self, field), self.num_blocks
            if isinstance(values, tuple) and len(values) != blocks:
                yield Violation(field, f"{field} lists {len(values)} values for {blocks} blocks", "write one per block")

    @rule
    def _heads_divide(self) -> Iterator[Violation]:
        if self.num_heads is not None and self.head_dim is not None:
            return
        field = "num_heads" if self.head_dim is None else "head_dim"
        for index, width, divisor in self._per_width(getattr(self, field)):
            if width % divisor:
                whose = "embed_dim" if len(self.unique_widths) == 1 else f"the width {width} of a block"
                message = f"{whose} must be divisible by {field}, got {width} and {divisor}"
                common = width if index is not None else math.gcd(*self.unique_widths)
                hint = f"nearest {field}: {nearest_divisors(common, divisor)}"
                if len(self.unique_widths) == 1 and index is None:
                    multiples = (width // divisor * divisor, (width // divisor + 1) * divisor)
                    hint += f"; nearest embed_dim: {', '.join(str(one) for one in multiples if one)}"
                yield Violation(field if index is None else (field, index), message, hint)
                if index is None:
                    return

    @rule
    def _mlp_has_channels(self) -> Iterator[Violation]:
        for index, width, ratio in self._per_width(self.mlp_ratio):
            if int(width * ratio) < 1:
                message = f"mlp_ratio leaves no channel in the MLP, got {ratio} of {width}"
                yield Violation("mlp_ratio" if index is None else ("mlp_ratio", index), message, "write 2, 3 or 4")
                if index is None:
                    return

    @rule
    def _squeeze_leaves_channels(self) -> Iterator[Violation]:
        if self.squeeze_excite and self.squeeze_excite.reduction > min(self.unique_widths):
            narrow, reduction = min(self.unique_widths), self.squeeze_excite.reduction
            message = f"a width of {narrow} over a reduction of {reduction} leaves no channel"
            yield Violation(("squeeze_excite", "reduction"), message, f"write at most {narrow}")

    @rule
    def _ghost_halves_widths(self) -> Iterator[Violation]:
        odd = [width for width in self.unique_widths if width % 2]
        if self.ghost and self.ghost.attention and odd:
            message = f"ghost attention halves the width, which must be even, got {odd[0]}"
            yield Violation(
                "embed_dim", message, "write widths that are divisible by 2 and the heads, or ghost: {attention: false}"
            )

    @rule
    def _ghost_mlp_ratio_is_whole(self) -> Iterator[Violation]:
        for index, _, ratio in self._per_width(self.mlp_ratio):
            if self.ghost and self.ghost.mlp and ratio != int(ratio):
                message = f"a ghost MLP needs a whole mlp_ratio, got {ratio}"
                field = "mlp_ratio" if index is None else ("mlp_ratio", index)
                yield Violation(field, message, f"write {max(1, round(ratio))}, or ghost: {{mlp: false}}")
                if index is None:
                    return

    @rule
    def _one_option_replaces_each(self) -> Iterator[Violation]:
        """At most one option replaces the attention of a block, and at most one its mlp."""
        ghost = self.ghost
        names = {
            "attention": "ghost" if ghost and ghost.attention else "",
            "mlp": "ghost" if ghost and ghost.mlp else "",
        }
        for index, option in enumerate(self.options):
            kind = str(getattr(option, "kind", ""))
            for module in getattr(option, "replaces", ()):
                if names.get(module):
                    message = f"{names[module]} and {kind} both replace the {module} of a block"
                    yield Violation(("options", index), message, "remove one of them")
                names[module] = names.get(module) or kind

    @rule
    def _one_option_of_a_kind(self) -> Iterator[Violation]:
        """Each kind of block option is given at most once."""
        kinds = [str(getattr(option, "kind", "")) for option in self.options]
        for index, kind in enumerate(kinds):
            if kind in kinds[:index]:
                yield Violation(("options", index), f"{kind} is given twice", "remove one of them")

    @lint
    def _narrow_heads(self) -> Iterator[Violation]:
        for width, head_dim in self._head_dims():
            if head_dim < 16:
                message = f"heads of {head_dim} channels: with fewer than 16, attention can hardly separate tokens"
                yield self._with_better_heads(message, width, head_dim)
                return

    @lint
    def _uneven_heads(self) -> Iterator[Violation]:
        for width, head_dim in self._head_dims():
            if head_dim >= 16 and head_dim % 8:
                message = f"heads of {head_dim} channels: fused attention kernels need a multiple of 8"
                yield self._with_better_heads(message, width, head_dim)
                return

    def _head_dims(self) -> list[tuple[int, int]]:
        """Return the distinct pairs of block width and head channels."""
        pairs = sorted(set(zip(self.widths, self.heads, strict=True)))
        return [(width, width // heads) for width, heads in pairs]

    def _with_better_heads(self, message: str, width: int, head_dim: int) -> Violation:
        """Return a warning about heads, with the nearest good value."""
        field = "num_heads" if self.head_dim is None else "head_dim"
        if len(self.unique_widths) > 1:
            return Violation(field, message, "write widths so that each head has a multiple of 8 channels")
        good = [dim for dim in range(16, width + 1, 8) if width % dim == 0]
        if not good:
            return Violation(field, message, "write an embed_dim that is divisible by 8")
        near = min(good, key=lambda dim: abs(dim - max(head_dim, 32)))
        return Violation(field, message, f"write {field}: {width // near if field == 'num_heads' else near}")

    def _per_width(self, value: T | tuple[T, ...] | None) -> list[tuple[int | None, int, T]]:
        """Return (index in the list or None, width of the block, value) for each value of a field."""
        if value is None:
            return []
        if not isinstance(value, tuple):
            return [(None, width, value) for width in self.unique_widths]
        widths = self.unique_widths if len(self.unique_widths) == 1 else self.widths
        return [(index, widths[min(index, len(widths) - 1)], one) for index, one in enumerate(value)]

    @property
    def block_options(self) -> tuple[Node, ...]:
        """The options of the blocks that are in use, in the order of application."""
        scale = None if self.layer_scale is None else LayerScale(init=self.layer_scale)
        return (*(one for one in (self.ghost, self.squeeze_excite, scale) if one is not None), *self.options)

    @property
    def heads(self) -> tuple[int, ...]:
        """Attention heads of each block."""
        if self.head_dim is not None:
            return tuple([width // self.head_dim for width in self.widths])
        assert self.num_heads is not None  # a rule requires one of the two
        return _per_block(self.num_heads, self.num_blocks)

    @property
    def mlp_ratios(self) -> tuple[int | float, ...]:
        """MLP ratio of each block."""
        return _per_block(self.mlp_ratio, self.num_blocks)

    @property
    def mlp_dims(self) -> tuple[int, ...]:
        """Hidden width of the MLP of each block."""
        if not isinstance(self.mlp_ratio, tuple) and len(self.unique_widths) == 1:
            return (int(self.unique_widths[0] * self.mlp_ratio),) * self.num_blocks
        return tuple(int(width * ratio) for width, ratio in zip(self.widths, self.mlp_ratios, strict=True))

    @property
    def drop_paths(self) -> tuple[float, ...]:
        """Drop-path rate of each block, linear from 0 to `drop_path`."""
        blocks = len(self.widths)
        return tuple(self.drop_path * block / max(1, blocks - 1) for block in range(blocks))


class _PlainShape(Node):
    kind: Literal["plain"] = "plain"
    """Blocks of one width; the default."""
    depth: int = Field(ge=1, le=1000, examples=[14], json_schema_extra=unit("blocks"))
    """Number of transformer blocks."""
    embed_dim: int = Field(ge=1, le=65536, examples=[384], json_schema_extra=unit("channels"))
    """Channels of every token."""


class PlainBackbone(BaseBackbone, _PlainShape):
    """A deep-narrow vision transformer: pre-norm blocks of one width (Section 3.2 of the paper)."""

    @property
    def widths(self) -> tuple[int, ...]:
        return (self.embed_dim,) * self.depth

    @property
    def unique_widths(self) -> tuple[int, ...]:
        return (self.embed_dim,)

    @property
    def num_blocks(self) -> int:
        return self.depth

    @property
    def out_dim(self) -> int:
        return self.embed_dim


class _DenseShape(Node):
    model_config = KIND_REQUIRED

    kind: Literal["dense"] = "dense"
    """Outputs of blocks concatenated to their inputs."""
    blocks: Annotated[tuple[Annotated[int, Field(ge=1, le=1000)], ...], ListAsTuple] = Field(
        min_length=1, max_length=64, examples=[[3, 6, 6, 4]], json_schema_extra=unit("blocks")
    )
    """Transformer blocks of each group; a transition between groups halves the width."""
    growth_rate: int = Field(ge=1, le=65536, examples=[64], json_schema_extra=unit("channels"))
    """Channels that each block adds to its input."""
    embed_dim: int = Field(ge=1, le=65536, examples=[128], json_schema_extra=unit("channels"))
    """Input channels of the first block."""


class DenseBackbone(BaseBackbone, _DenseShape):
    """Outputs of blocks concatenated to their inputs (DenseNet, Huang et al. 2017; the paper's T2T-ViT-Dense)."""

    @rule
    def _at_most_a_thousand_blocks(self) -> Iterator[Violation]:
        if self.depth > 1000:
            yield Violation("blocks", f"at most 1000 blocks in all, got {self.depth}", "write fewer")

    @property
    def depth(self) -> int:
        """Number of transformer blocks."""
        return sum(self.blocks)

    @property
    def groups(self) -> tuple[tuple[int, ...], ...]:
        """Input channels of the blocks of each group."""
        groups, start = [], self.embed_dim
        for count in self.blocks:
            groups.append(tuple(start + self.growth_rate * block for block in range(count)))
            start = (start + self.growth_rate * count) // 2
        return tuple(groups)

    @property
    def widths(self) -> tuple[int, ...]:
        return tuple(width for group in self.groups for width in group)

    @property
    def unique_widths(self) -> tuple[int, ...]:
        return tuple(dict.fromkeys(self.widths))

    @property
    def num_blocks(self) -> int:
        return self.depth

    @property
    def out_dim(self) -> int:
        return self.widths[-1] + self.growth_rate


Backbone = PlainBackbone | DenseBackbone
BackboneField = Annotated[Backbone, Field(discriminator="kind"), default_kind("plain")]


def _per_block(value: T | tuple[T, ...], blocks: int) -> tuple[T, ...]:
    """Return one value for each block."""
    return value if isinstance(value, tuple) else (value,) * blocks


def nearest_divisors(number: int, wanted: int) -> str:
    """Return the divisors of a number just below and just above the wanted one."""
    small = [divisor for divisor in range(1, math.isqrt(number) + 1) if number % divisor == 0]
    divisors = [*small, *(number // divisor for divisor in reversed(small))]
    below = [divisor for divisor in divisors if divisor < wanted]
    above = [divisor for divisor in divisors if divisor > wanted]
    return ", ".join(map(str, (*below[-1:], *above[:1])))
