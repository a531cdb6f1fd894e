"""Scale the base of a search into the budget."""

import math
from collections.abc import Iterator, Sequence
from fractions import Fraction
from itertools import accumulate, pairwise
from typing import Any

from t2tbuild.accuracy.best_shape import best_shapes, name_by_shape, shape_error
from t2tbuild.cost import predict_cost
from t2tbuild.cost.bisection import largest
from t2tbuild.cost.budget import is_over, is_within, measure
from t2tbuild.errors import FieldError
from t2tbuild.spec import catalog
from t2tbuild.spec.backbone import Backbone, DenseBackbone
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.diagnostics.partial_validation import Finding
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.units import round_up, short_count
from t2tbuild.spec.with_changes import with_changes

FIELD = ("search", "base")


def scale_to_budget(base: ModelSpec, budget: Budget) -> tuple[ModelSpec, tuple[Finding, ...]]:
    """Return the base, or a smaller one with a warning where it is over the budget.

    The smaller one keeps the tokenizer and the options. Where an accuracy is predicted, it has the width and depth of
    the best prediction, and the base's MLP ratio. Elsewhere it keeps the width, or takes the largest one with at least
    half the depth. The groups of a dense backbone shrink in proportion, and lists of one value per block keep the
    first values of each group. A base below a minimum is returned unchanged. Raises FieldError where no smaller one is
    within the budget.
    """
    if not is_over(base, budget):
        return base, ()
    scaled = _best_predicted(base, budget) or _shrink_uniformly(base, budget)
    largest_name = find_largest_shipped(budget)
    if scaled is None:
        message = f"the base {base.name} is over {budget.summary}, and so is every smaller one with its tokenizer"
        if any(bounds.min is not None for bounds in budget.limits.values()):
            message = f"the base {base.name} is over {budget.summary}, and no smaller one with its tokenizer is within"
        example = f", such as {largest_name}" if largest_name else ""
        hint = f"name a base within the budget{example}{_describe_least(base, budget)}"
        raise FieldError(FIELD, "base-over-budget", message, hint)
    scaled = name_by_shape(base, scaled)
    nearest = f"; the largest shipped T2T-ViT within it is {largest_name}" if largest_name else ""
    message = (
        f"the base {base.name} is over {budget.summary}: scaled to {_describe(scaled.backbone)}, "
        f"{short_count(predict_cost(scaled).macs)} MACs, with the tokenizer, options and MLP ratio kept{nearest}"
    )
    return scaled, (Finding(FIELD, "base-over-budget", message, "name a base within the budget"),)


def _describe_least(base: ModelSpec, budget: Budget) -> str:
    """Return the smallest budget that the smallest model of a base is within, as the rest of a sentence."""
    costs = [measure(models[0], budget) for models in _smaller_models(base) if models]
    least = {name: min(cost[name] for cost in costs) for name in budget.limits if costs and name in costs[0]}
    over = [
        f"search.budget.{name}: {round_up(int(amount))}"
        for name, amount in least.items()
        if (most := budget.limits[name].max) is not None and amount > most
    ]
    return f", or write at least {' and '.join(over)}" if over else ""


def _describe(backbone: Backbone) -> str:
    if isinstance(backbone, DenseBackbone):
        return f"blocks {list(backbone.blocks)} of width {backbone.embed_dim} and growth rate {backbone.growth_rate}"
    cut = [name for name in ("num_heads", "mlp_ratio") if isinstance(getattr(backbone, name), tuple)]
    lists = f" (the first of each list: {', '.join(cut)})" if cut else ""
    return f"{backbone.depth} blocks of width {backbone.embed_dim}{lists}"


def _best_predicted(base: ModelSpec, budget: Budget) -> ModelSpec | None:
    """Return the best predicted shape within the budget that is not wider, None where none is predicted."""
    if shape_error(base) is not None:
        return None
    for one in best_shapes(base, lambda model: not is_over(model, budget)):
        backbone = one.model.backbone
        same = backbone.mlp_ratio == base.backbone.mlp_ratio and backbone.embed_dim <= base.backbone.embed_dim
        if same and is_within(one.model, budget):
            return one.model
    return None


def _shrink_uniformly(base: ModelSpec, budget: Budget) -> ModelSpec | None:
    """Return the base with fewer blocks, and narrower where less than half of its depth would be left."""
    found: ModelSpec | None = None
    for models in _smaller_models(base):
        deepest = largest(models, lambda model: not is_over(model, budget))
        if deepest is None or not is_within(deepest, budget):
            continue
        if found is None or deepest.backbone.depth > found.backbone.depth:
            found = deepest
        if 2 * found.backbone.depth >= base.backbone.depth:
            break
    return found


def _smaller_models(base: ModelSpec) -> Iterator[list[ModelSpec]]:
    """Yield, for each width from the base's downwards, the valid models of every depth, the shallowest first.

    A narrower one has fewer heads of as many channels, and in a dense backbone a lower growth rate.
    """
    backbone = base.backbone
    parts = math.gcd(*backbone.heads) if backbone.head_dim is None else backbone.embed_dim // backbone.head_dim
    shapes = dict.fromkeys(_blocks_of(backbone, depth) for depth in range(1, backbone.depth + 1))
    for part in range(parts, 0, -1):
        models = (_reshaped(base, Fraction(part, parts), blocks) for blocks in shapes)
        yield [model for model in models if model is not None]


def _blocks_of(backbone: Backbone, depth: int) -> tuple[int, ...]:
    """Return the blocks of each group, in proportion to the backbone's, at least one each, for `depth` in all."""
    ends = [round(end * depth / backbone.depth) for end in accumulate(_groups(backbone), initial=0)]
    return tuple(max(1, end - start) for start, end in pairwise(ends))


def _groups(backbone: Backbone) -> tuple[int, ...]:
    return backbone.blocks if isinstance(backbone, DenseBackbone) else (backbone.num_blocks,)


def _reshaped(base: ModelSpec, share: Fraction, blocks: Sequence[int]) -> ModelSpec | None:
    """Return the base with a share of its width and other blocks in each group, None where that is invalid."""
    backbone = base.backbone
    starts = accumulate(_groups(backbone), initial=0)
    kept = [start + block for start, count in zip(starts, blocks, strict=False) for block in range(count)]
    heads, ratios = backbone.num_heads, backbone.mlp_ratio
    changes: dict[str, Any] = {"embed_dim": int(backbone.embed_dim * share)}
    if isinstance(ratios, tuple):
        changes["mlp_ratio"] = tuple(ratios[block] for block in kept)
    if heads is not None:
        changes["num_heads"] = (
            tuple(int(heads[block] * share) for block in kept) if isinstance(heads, tuple) else int(heads * share)
        )
    if isinstance(backbone, DenseBackbone):
        changes |= {"blocks": tuple(blocks), "growth_rate": max(1, round(backbone.growth_rate * share))}
    else:
        changes["depth"] = blocks[0]
    try:
        return with_changes(base, {"backbone": backbone.model_dump() | changes}, "scaled")
    except FieldError:
        return None


def find_largest_shipped(budget: Budget) -> str | None:
    """Return the name of the largest shipped T2T-ViT within a budget, None where there is none."""
    macs = {}
    for name in catalog.names("specs"):
        model = load_spec(name).model
        if name.startswith("t2t_vit") and isinstance(model, ModelSpec) and is_within(model, budget):
            macs[name] = predict_cost(model).macs
    return max(macs, key=lambda name: macs[name], default=None)
