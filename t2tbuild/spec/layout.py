"""The parts of a model that a person would name, with the modules that make each up. Torch-free.

The closed form and the counter both follow this list, so that their tables have the same rows.
"""

from t2tbuild.parts import Part
from t2tbuild.spec.model import ModelSpec


def layout(model: ModelSpec) -> tuple[Part, ...]:
    """The parts of `model` in the order in which an image passes them."""
    parts = []
    widths = model.tokenizer.widths(model.in_chans)
    for index, (stage, grid, width) in enumerate(zip(model.tokenizer.stages, model.grids, widths, strict=True)):
        split = f"soft split {index + 1} ({stage.patch_size}x{stage.patch_size}, overlap {stage.overlap})"
        parts.append(Part(split, (f"tokens_to_token.soft_split{index}",), grid, grid.tokens, width))
        if stage.attention is not None:
            name = f"token {stage.attention.kind} {index + 1}"
            modules = (f"tokens_to_token.attention{index + 1}",)
            parts.append(Part(name, modules, grid, grid.tokens, stage.token_dim or 0))
    grid, channels, depth = model.grids[-1], model.backbone.embed_dim, model.backbone.depth
    blocks = tuple(f"blocks.{index}" for index in range(depth))
    return (
        *parts,
        Part("projection", ("tokens_to_token.project",), grid, grid.tokens, channels),
        Part("class token, position", ("cls_token", "pos_embed"), None, model.tokens, channels),
        Part(f"backbone blocks x {depth}", blocks, None, model.tokens, channels),
        Part("norm", ("norm",), None, model.tokens, channels),
        Part("head", ("head",), None, 1, model.num_classes),
    )
