"""Position embeddings over [class token, raster of tokens]."""

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


def resize_position(table_1NC: Tensor, old: tuple[int, int], new: tuple[int, int]) -> Tensor:
    """A position table of one grid for another: the class token's row kept, the others interpolated bicubically.

    [1, 1 + rows * columns, C] of the old grid -> the same of the new one, in the table's own type.
    """
    token_11C, raster_1NC = table_1NC[:, :1], table_1NC[:, 1:]
    map_1CHW = raster_1NC.float().transpose(1, 2).unflatten(2, old)  # type: ignore[no-untyped-call]
    resized_1CHW = F.interpolate(map_1CHW, size=new, mode="bicubic", align_corners=False)
    return torch.cat((token_11C, resized_1CHW.flatten(2).transpose(1, 2).to(table_1NC.dtype)), dim=1)
