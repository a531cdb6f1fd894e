"""Scale the base of a search into the budget."""

from t2tbuild.accuracy.best_shape import best_shapes, name_by_shape, shape_error, with_shape
from t2tbuild.cost import predict_cost
from t2tbuild.cost.bisection import largest
from t2tbuild.cost.budget import is_over, is_within
from t2tbuild.spec import catalog
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.diagnostics.partial_validation import Finding
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.units import short_count


def scale_to_budget(base: ModelSpec, budget: Budget) -> tuple[ModelSpec, tuple[Finding, ...]]:
    """Return the base, or a smaller one with a warning where it is over the budget.

    The smaller one keeps the tokenizer, options and MLP ratio. Its width and depth are those of the best predicted
    accuracy; where nothing is predicted, it keeps the width, or takes the largest one with at least half the depth. A
    base below a minimum is returned unchanged, and so is one without a single depth and width: one with a dense
    backbone or with one value per block.
    """
    backbone = base.backbone
    if not is_over(base, budget) or shape_error(base) is not None:
        return base, ()
    shapes = best_shapes(base, lambda model: not is_over(model, budget))
    own = (one.model for one in shapes if one.model.backbone.mlp_ratio == backbone.mlp_ratio)
    scaled = next((model for model in own if model.backbone.embed_dim <= backbone.embed_dim), None)
    scaled = scaled or _shrink_uniformly(base, budget)
    if scaled is None:
        return base, ()
    scaled = name_by_shape(base, scaled)
    largest_name = find_largest_shipped(budget)
    nearest = f"; the largest shipped T2T-ViT within it is {largest_name}" if largest_name else ""
    message = (
        f"the base {base.name} is over {budget.summary}: scaled to {scaled.backbone.depth} blocks of width "
        f"{scaled.backbone.embed_dim}, {short_count(predict_cost(scaled).macs)} MACs, with the tokenizer, options and "
        f"MLP ratio kept{nearest}"
    )
    return scaled, (Finding(("search", "base"), "base-over-budget", message, "name a base within the budget"),)


def _shrink_uniformly(base: ModelSpec, budget: Budget) -> ModelSpec | None:
    """Return the base with fewer blocks, and narrower where less than half of its depth would be left."""
    backbone, found = base.backbone, None
    assert isinstance(backbone.mlp_ratio, int | float)
    for width in range(backbone.embed_dim, 0, -(backbone.embed_dim // backbone.heads[0])):
        models = [with_shape(base, width, backbone.mlp_ratio, depth) for depth in range(1, backbone.depth + 1)]
        deepest = largest(models, lambda model: not is_over(model, budget))
        if deepest is not None:
            found = deepest
            if 2 * deepest.backbone.depth >= backbone.depth:
                return found
    return found


def find_largest_shipped(budget: Budget) -> str | None:
    """Return the name of the largest shipped T2T-ViT within a budget, None where there is none."""
    macs = {}
    for name in catalog.names("specs"):
        model = load_spec(name).model
        if name.startswith("t2t_vit") and isinstance(model, ModelSpec) and is_within(model, budget):
            macs[name] = predict_cost(model).macs
    return max(macs, key=lambda name: macs[name], default=None)
