"""Position embeddings over [class token, raster of tokens]."""

import torch
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
