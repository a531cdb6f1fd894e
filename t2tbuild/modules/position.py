"""Position embeddings: one row per prefix token (class, distillation), then the tokens in raster order."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sinusoid_table(tokens: int, dim: int) -> Tensor:
    """Return the fixed table of Vaswani et al. (2017), Section 3.5: [1, tokens, dim], float32.

    angle(n, c) = n / 10000^(2 floor(c / 2) / dim); even channels hold its sine, odd ones its cosine. Computed in
    float64, as the released code does.
    """
    channel = torch.arange(dim, dtype=torch.float64)
    rate = 10000.0 ** (-2 * (channel // 2) / dim)
    angle = torch.arange(tokens, dtype=torch.float64)[:, None] * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None]


def resize_position(table_1NC: Tensor, old: tuple[int, int], new: tuple[int, int], *, prefix: int = 1) -> Tensor:
    """Resize a position table from one grid to another by bicubic interpolation; the first `prefix` rows stay.

    [1, prefix + rows * columns, C] of the `old` grid -> the same of the `new` grid, in the table's dtype.
    """
    prefix_1PC, raster_1NC = table_1NC[:, :prefix], table_1NC[:, prefix:]
    map_1CHW = raster_1NC.float().transpose(1, 2).unflatten(2, old)  # type: ignore[no-untyped-call]
    resized_1CHW = F.interpolate(map_1CHW, size=new, mode="bicubic", align_corners=False)
    return torch.cat((prefix_1PC, resized_1CHW.flatten(2).transpose(1, 2).to(table_1NC.dtype)), dim=1)


def fit_position(table_1NC: Tensor, own: tuple[int, int], stored: tuple[int, int] | None, *, prefix: int = 1) -> Tensor:
    """Fit a stored position table to the grid `own`.

    `stored` is the grid of the table. If it is None, the grid is `own` or a square, whichever has as many positions.
    The first `prefix` rows belong to prefix tokens. Raises ValueError if the grid is ambiguous, or if its number of
    positions is not that of the table.
    """
    positions = table_1NC.shape[1] - prefix
    side = math.isqrt(max(0, positions))
    candidates = {grid for grid in (own, (side, side)) if math.prod(grid) == positions}
    if stored is None and len(candidates) != 1:
        raise ValueError(f"the grid of its position embedding of {positions} positions is not known")
    grid = stored or candidates.pop()
    if positions < 1 or math.prod(grid) != positions:
        raise ValueError(f"its position embedding has {positions} positions, not a grid of {grid[0]}, {grid[1]}")
    return table_1NC if grid == own else resize_position(table_1NC, grid, own, prefix=prefix)
