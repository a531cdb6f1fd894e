"""Limits on the size of a model, checked before anything is allocated.

The estimates here are rough, and enough to reject a model that fits no machine. `t2tbuild.cost.predict_cost` counts
exactly.
"""

from t2tbuild.layout import Grid
from t2tbuild.spec.backbone import Backbone
from t2tbuild.spec.tokenizer import T2TTokenizer, Tokenizer
from t2tbuild.spec.units import short_count

MAX_PARAMS = 10**12
"""Largest number of parameters of a model: 4 TB in float32, thousands of times the paper's largest."""
MAX_ACTIVATION_VALUES = 10**11
"""Largest number of values of one activation of one image: 400 GB in float32."""

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def format_float32_memory(values: float) -> str:
    """Format the memory of float32 values; `values` is their number.

    >>> format_float32_memory(21_500_000), format_float32_memory(5e10)
    ('86.0 MB', '200 GB')
    """
    size, index = values * 4.0, 0
    while size >= 1000 and index < len(_UNITS) - 1:
        size, index = size / 1000, index + 1
    return f"{size:.0f} {_UNITS[index]}" if size >= 100 else f"{size:.1f} {_UNITS[index]}"


def block_params(width: float, mlp_ratio: float) -> float:
    """Return the parameters of the matrices of a block: 4 C^2 of the attention, 2 r C^2 of the MLP."""
    return (4 + 2 * mlp_ratio) * width * width


def backbone_params(backbone: Backbone) -> float:
    """Return the parameters of all blocks."""
    return sum(block_params(width, ratio) for width, ratio in zip(backbone.widths, backbone.mlp_ratios, strict=True))


def tokenizer_params(tokenizer: Tokenizer, in_chans: int, embed_dim: int) -> float:
    """Return the parameters of the projections of all windows and of the token attentions."""
    total = 0.0
    for window, channels in zip(tokenizer.windows, tokenizer.channels_below(in_chans), strict=True):
        width, out = float(channels) * window.patch_size**2, window.token_dim or embed_dim
        attended = isinstance(tokenizer, T2TTokenizer) and window.token_dim is not None
        total += 3 * width * out + 3 * float(out) ** 2 if attended else width * out
    return total


def largest_activation(tokenizer: Tokenizer, image: Grid, in_chans: int, backbone: Backbone, tokens: int) -> float:
    """Return the number of values of the largest activation of one image: a soft split, an MLP, or the image.

    `tokens` is the number of tokens of the backbone.
    """
    sizes = [float(image.tokens) * in_chans]
    for grid, window, channels in zip(
        tokenizer.grids(image), tokenizer.windows, tokenizer.channels_below(in_chans), strict=True
    ):
        sizes.append(float(grid.tokens) * channels * window.patch_size**2)
    sizes.append(float(tokens) * max(*backbone.mlp_dims, *backbone.widths, 1) * 3)
    return max(sizes)


def format_params(params: float) -> str:
    """Format a number of parameters with its memory: 1.5T parameters, 6.0 TB in float32."""
    count = short_count(params) if params < 1e15 else f"{params:.1e}"
    return f"{count} parameters, {format_float32_memory(params)} in float32"
