"""How large a model would be, roughly, told before anything of it is allocated.

The exact count is `t2tbuild.cost.predict_cost`; here a few products are enough to refuse what no machine holds.
"""

from t2tbuild.layout import Grid
from t2tbuild.spec.backbone import Backbone
from t2tbuild.spec.tokenizer import T2TTokenizer, Tokenizer
from t2tbuild.spec.units import short_count

MOST_PARAMS = 10**12
"""Parameters beyond which a model is refused: 4 TB in float32, thousands of times the paper's largest."""
MOST_VALUES = 10**11
"""Values of one activation of one image beyond which a model is refused: 400 GB in float32."""

_UNITS = ("B", "kB", "MB", "GB", "TB", "PB", "EB")


def in_bytes(values: float) -> str:
    """The memory of so many float32 values, in words.

    >>> in_bytes(21_500_000), in_bytes(5e10)
    ('86.0 MB', '200 GB')
    """
    size, index = values * 4.0, 0
    while size >= 1000 and index < len(_UNITS) - 1:
        size, index = size / 1000, index + 1
    return f"{size:.0f} {_UNITS[index]}" if size >= 100 else f"{size:.1f} {_UNITS[index]}"


def block_params(width: float, mlp_ratio: float) -> float:
    """Parameters of one block's matrices: 4 C^2 of the attention, 2 r C^2 of the MLP."""
    return (4 + 2 * mlp_ratio) * width * width


def backbone_params(backbone: Backbone) -> float:
    """Parameters of all blocks."""
    return sum(block_params(width, ratio) for width, ratio in zip(backbone.widths, backbone.mlp_ratios, strict=True))


def tokenizer_params(tokenizer: Tokenizer, in_chans: int, embed_dim: int) -> float:
    """Parameters of the projections of every window, and of the token attentions."""
    total = 0.0
    for window, channels in zip(tokenizer.windows, tokenizer.channels_below(in_chans), strict=True):
        width, out = float(channels) * window.patch_size**2, window.token_dim or embed_dim
        attended = isinstance(tokenizer, T2TTokenizer) and window.token_dim is not None
        total += 3 * width * out + 3 * float(out) ** 2 if attended else width * out
    return total


def largest_activation(tokenizer: Tokenizer, image: Grid, in_chans: int, backbone: Backbone, tokens: int) -> float:
    """Values of the largest activation of one image: a soft split, the hidden layer of an MLP, the image itself.

    `tokens` are those that the backbone reads.
    """
    sizes = [float(image.tokens) * in_chans]
    for grid, window, channels in zip(
        tokenizer.grids(image), tokenizer.windows, tokenizer.channels_below(in_chans), strict=True
    ):
        sizes.append(float(grid.tokens) * channels * window.patch_size**2)
    sizes.append(float(tokens) * max(*backbone.mlp_dims, *backbone.widths, 1) * 3)
    return max(sizes)


def told(params: float) -> str:
    """A number of parameters with its memory, in words: 1.5T parameters, 6.0 TB in float32."""
    return f"{short_count(params) if params < 1e15 else f'{params:.1e}'} parameters, {in_bytes(params)} in float32"
