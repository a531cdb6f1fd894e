"""Random erasing for images that are not normalised yet: what timm would draw is kept beside them."""

from typing import Any, NamedTuple

import torch
from timm.data.random_erasing import RandomErasing
from torch import Tensor


class Patch(NamedTuple):
    """A rectangle of a normalised image [C, H, W] that random erasing fills with `noise` [C, height, width]."""

    top: int
    left: int
    noise: Tensor


def drawn(erasing: RandomErasing, shape: torch.Size) -> Patch | None:
    """What `erasing` draws into an image [C, H, W], if it does, from the generators of random and torch."""
    canvas: Any = _Canvas(shape)
    erasing(canvas)
    patch: Patch | None = canvas.patch
    return patch


class _Canvas:
    """What RandomErasing takes for an image [C, H, W]; it keeps only what is put into it."""

    dtype = torch.float32

    def __init__(self, shape: torch.Size) -> None:
        self.shape = shape
        self.patch: Patch | None = None

    def size(self) -> torch.Size:
        return self.shape

    def __setitem__(self, place: tuple[slice, slice, slice], pixels: Tensor) -> None:
        _, rows, columns = place
        noise = pixels.expand(self.shape[0], rows.stop - rows.start, columns.stop - columns.start)
        self.patch = Patch(rows.start, columns.start, noise) if noise.numel() else None
