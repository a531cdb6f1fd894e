"""LayerScale as a block option of one's own: a trained weight per channel ends each residual branch.

The language has the field `backbone.layer_scale` for it; this file shows how such an option is written.

    backbone: {depth: 14, embed_dim: 384, num_heads: 6, options: [{kind: layer_scale, init: 0.1}]}

Source: Touvron et al., "Going deeper with image transformers", ICCV 2021, Section 2.
"""

from typing import Literal

import torch
from pydantic import Field
from torch import Tensor, nn

from t2tbuild import extension
from t2tbuild.build import BlockModules


class LayerScale(extension.Node):
    """Trained weights per channel at the end of each residual branch."""

    kind: Literal["layer_scale"] = "layer_scale"
    """A weight per channel."""
    init: float = Field(default=1e-5, gt=0, le=1, examples=[1e-5])
    """Value of the weights before training."""


class LayerScaleModule(nn.Module):
    """x * gamma with one weight per channel."""

    def __init__(self, dim: int, init: float) -> None:
        super().__init__()
        self.gamma = nn.Parameter(torch.full((dim,), init))

    def forward(self, x_BNC: Tensor) -> Tensor:
        """[B, N, dim] -> [B, N, dim]."""
        return x_BNC * self.gamma


def build(node: LayerScale) -> BlockModules:
    """Add the modules scale1 and scale2 to every block."""
    return BlockModules(after_branch=("scale", lambda dim: LayerScaleModule(dim, node.init)))


def scale(f: extension.Forward, x: extension.Tensor, _node: LayerScale) -> extension.Tensor:
    """Record the forward pass of the module, whose only layer is the module itself: an empty name."""
    return f.scale("", x, width=4)


def forward(node: LayerScale) -> extension.BlockHooks:
    """Return the changes of a block, with a caption for the diagram."""
    caption = extension.Caption(extension.BoxKind.LINEAR, "layer scale", f"{node.init:g} at first")
    return extension.BlockHooks(after_branch=("scale", scale), caption=caption)


EXTENSIONS = [extension.BlockOption(node=LayerScale, build=build, forward=forward)]
