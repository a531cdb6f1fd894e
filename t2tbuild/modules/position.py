"""Position embeddings over [class token, distillation token where there is one, raster of tokens]."""

import math

import torch
import torch.nn.functional as F
from torch import Tensor


def sinusoid_table(tokens: int, dim: int) -> Tensor:
    """The fixed table of Vaswani et al. (2017), Section 3.5: [1, tokens, dim], float32.

    angle(n, c) = n / 10000^(2 floor(c / 2) / dim); even channels take its sine, odd ones its cosine. Computed in
    float64, as the released code does.
    """
    channel = torch.arange(dim, dtype=torch.float64)
    rate = 10000.0 ** (-2 * (channel // 2) / dim)
    angle = torch.arange(tokens, dtype=torch.float64)[:, None] * rate
    return torch.where(channel % 2 == 0, angle.sin(), angle.cos()).float()[None]


def resize_position(table_1NC: Tensor, old: tuple[int, int], new: tuple[int, int], *, prefix: int = 1) -> Tensor:
    """A position table of one grid for another: the first `prefix` rows kept, the others interpolated bicubically.

    [1, prefix + rows * columns, C] of the old grid -> the same of the new one, in the table's own type.
    """
    prefix_1PC, raster_1NC = table_1NC[:, :prefix], table_1NC[:, prefix:]
    map_1CHW = raster_1NC.float().transpose(1, 2).unflatten(2, old)  # type: ignore[no-untyped-call]
    resized_1CHW = F.interpolate(map_1CHW, size=new, mode="bicubic", align_corners=False)
    return torch.cat((prefix_1PC, resized_1CHW.flatten(2).transpose(1, 2).to(table_1NC.dtype)), dim=1)


def fit_position(table_1NC: Tensor, own: tuple[int, int], stored: tuple[int, int] | None, *, prefix: int = 1) -> Tensor:
    """A stored position table for the grid `own`; `stored` is the grid that it was made for, None where nobody says.

    Its first `prefix` rows are no places. Unsaid, the grid is the own one or a square. Raises ValueError where it could
    be both or neither, or is not what is said.
    """
    places = table_1NC.shape[1] - prefix
    side = math.isqrt(max(0, places))
    likely = {grid for grid in (own, (side, side)) if math.prod(grid) == places}
    if stored is None and len(likely) != 1:
        raise ValueError(f"the rows and columns of its position embedding of {places} places are not known")
    grid = stored or likely.pop()
    if places < 1 or math.prod(grid) != places:
        raise ValueError(
            f"the rows and columns of its position embedding of {places} places are not {grid[0]}, {grid[1]}"
        )
    return table_1NC if grid == own else resize_position(table_1NC, grid, own, prefix=prefix)
