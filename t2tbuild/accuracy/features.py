"""ModelSpec -> the features of the accuracy predictor, a linear model of log error. Torch-free.

Features are logarithms relative to T2T-ViT-14 (14 blocks of width 384, MLP ratio 3, 196 tokens), or 0 and 1.
"""

import math
from typing import NamedTuple

from t2tbuild.spec.backbone import BaseBackbone, DenseBackbone
from t2tbuild.spec.extension.registry import extension_nodes, name_of
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.tokenizer import T2TTokenizer, Tokenizer

SHALLOW_DEPTH = 9
"""A model with fewer blocks is shallow."""

PRIOR_STD = {
    "size": 0.13,
    "size^2": 0.04,
    "aspect": 0.04,
    "aspect^2": 0.05,
    "size aspect": 0.036,
    "shallow": 0.2,
    "tokens": 0.15,
    "tokens^2": 0.056,
    "mlp_ratio": 0.1,
    "mlp_ratio^2": 0.13,
    "overlap": 0.07,
    "t2t": 0.07,
    "performer": 0.02,
    "squeeze_excite": 0.04,
    "ghost": 0.1,
    "dense": 0.07,
    "teacher": 0.1,
}
"""The prior standard deviation of each weight, in log error, from the marginal likelihood of the published models that
are not reserved for the final test; rounded."""


class Shape(NamedTuple):
    """The properties of a model that the predictor uses.

    `width` is the root mean square of the blocks' widths, `mlp_ratio` the mean of their ratios, `weights` the number of
    parameters in the blocks' matrices, `tokens` the number of image tokens in the backbone, `side` the shorter side of
    the image in pixels. `tokenizer` lists kind, patch sizes, overlaps, widths and attentions. `unpublished` names what
    an extension brings, of which no published model is known: such a shape has no prediction.
    """

    depth: int
    width: float
    mlp_ratio: float
    weights: float
    tokens: int
    side: int
    tokenizer: str
    squeeze_excite: bool
    ghost: bool
    dense: bool
    unpublished: str = ""

    @property
    def key(self) -> str:
        """The backbone as one word: 14x384x3 is 14 blocks of width 384 and MLP ratio 3."""
        return f"{self.depth}x{self.width:.0f}x{self.mlp_ratio:.3g}"

    @property
    def kind(self) -> str:
        """The kind of tokenizer: patch, conv, or t2t with its attention."""
        words = self.tokenizer.split()
        if words[0] != "t2t":
            return words[0]
        return next((f"t2t {kind}" for kind in ("performer", "transformer") if kind in words), "t2t")

    @property
    def options(self) -> str:
        """The names of the options in use: squeeze_excite, ghost, dense."""
        return " ".join(name for name in ("squeeze_excite", "ghost", "dense") if getattr(self, name))


def shape_of(model: ModelSpec) -> Shape:
    """Return the shape of a model."""
    backbone = model.backbone
    widths = backbone.widths
    return Shape(
        depth=len(widths),
        width=math.sqrt(sum(width * width for width in widths) / len(widths)),
        mlp_ratio=sum(backbone.mlp_ratios) / len(widths),
        weights=_weights(backbone),
        tokens=model.grids[-1].tokens,
        side=min(model.image),
        tokenizer=_tokenizer_key(model.tokenizer),
        squeeze_excite=backbone.squeeze_excite is not None,
        ghost=backbone.ghost is not None,
        dense=isinstance(backbone, DenseBackbone),
        unpublished=", ".join(dict.fromkeys(name_of(node) for _, node in extension_nodes(model))),
    )


def features_of(shape: Shape) -> dict[str, float]:
    """Return the features of a shape, by the names of PRIOR_STD without `teacher`, which belongs to the recipe."""
    size = math.log(shape.weights / REFERENCE.weights)
    aspect = math.log(shape.width / shape.depth * REFERENCE.depth / REFERENCE.width)
    tokens = math.log(shape.tokens / REFERENCE.tokens)
    mlp_ratio = math.log(shape.mlp_ratio / REFERENCE.mlp_ratio)
    return {
        "size": size,
        "size^2": size * size,
        "aspect": aspect,
        "aspect^2": aspect * aspect,
        "size aspect": size * aspect,
        "shallow": max(0.0, math.log(SHALLOW_DEPTH / shape.depth)),
        "tokens": tokens,
        "tokens^2": tokens * tokens,
        "mlp_ratio": mlp_ratio,
        "mlp_ratio^2": mlp_ratio * mlp_ratio,
        "overlap": float(shape.kind != "patch"),
        "t2t": float(shape.kind.startswith("t2t")),
        "performer": float(shape.kind == "t2t performer"),
        "squeeze_excite": float(shape.squeeze_excite),
        "ghost": float(shape.ghost),
        "dense": float(shape.dense),
    }


def _weights(backbone: BaseBackbone) -> float:
    """Return the parameters of the blocks' matrices: 4 w^2 of attention and 2 w h of the MLP, less with ghost."""
    ghost, total = backbone.ghost, 0.0
    for width, hidden in zip(backbone.widths, backbone.mlp_dims, strict=True):
        total += width * width * (2.5 if ghost and ghost.attention else 4.0)
        total += width * (width + hidden if ghost and ghost.mlp else 2.0 * hidden)
    return total


def _tokenizer_key(tokenizer: Tokenizer) -> str:
    """Return the tokenizer as text: t2t 7-3-64 performer 3-1-64 performer 3-1."""
    words: list[str] = [tokenizer.kind]
    for window in tokenizer.windows:
        words.append("-".join(str(size) for size in (window.patch_size, window.overlap, window.token_dim) if size))
        if isinstance(tokenizer, T2TTokenizer):
            attention = getattr(window, "attention", None)
            words += [attention.kind] if attention else []
    return " ".join(words)


REFERENCE = Shape(
    depth=14,
    width=384.0,
    mlp_ratio=3.0,
    weights=14 * 384 * 384 * 10.0,
    tokens=196,
    side=224,
    tokenizer="t2t 7-3-64 performer 3-1-64 performer 3-1",
    squeeze_excite=False,
    ghost=False,
    dense=False,
)
"""T2T-ViT-14. All its features are zero except those of its tokenizer."""
