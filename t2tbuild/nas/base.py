"""The base of a search: one that is over the budget is scaled into it."""

from t2tbuild.accuracy.best_shape import best_shapes, named_by_shape, with_shape
from t2tbuild.cost import predict_cost
from t2tbuild.cost.fit import largest
from t2tbuild.nas.budget import is_over, within
from t2tbuild.spec import catalog
from t2tbuild.spec.backbone import PlainBackbone
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.diagnostics.partial_validation import Found
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.units import short_count


def scale_to_budget(base: ModelSpec, budget: Budget) -> tuple[ModelSpec, tuple[Found, ...]]:
    """The base, or where it is over the budget, a smaller one of its kind, with a warning that says so.

    The smaller one has the base's tokenizer, options and MLP ratio, and the width and depth of the best predicted
    accuracy; where nothing is predicted, the base's width, or the widest below it that leaves half of the base's depth.
    A base that is below a minimum stays as it is, and so does one that cannot be scaled: a dense backbone, or a value
    for each block.
    """
    backbone = base.backbone
    if not is_over(base, budget) or not isinstance(backbone, PlainBackbone):
        return base, ()
    if isinstance(backbone.mlp_ratio, tuple) or isinstance(backbone.num_heads, tuple):
        return base, ()
    shapes = best_shapes(base, lambda model: not is_over(model, budget))
    own = (one.model for one in shapes if one.model.backbone.mlp_ratio == backbone.mlp_ratio)
    scaled = next((model for model in own if model.backbone.embed_dim <= backbone.embed_dim), None)
    scaled = scaled or _half_as_deep(base, budget)
    if scaled is None:
        return base, ()
    scaled = named_by_shape(base, scaled)
    largest_name = largest_shipped(budget)
    nearest = f"; the largest shipped T2T-ViT within it is {largest_name}" if largest_name else ""
    message = (
        f"the base {base.name} is over {budget.short}; it is scaled to {scaled.backbone.depth} blocks of width "
        f"{scaled.backbone.embed_dim}, {short_count(predict_cost(scaled).macs)} MACs, with the tokenizer, options and "
        f"MLP ratio kept{nearest}"
    )
    return scaled, (Found(("search", "base"), "base-over-budget", message, "name a base within the budget"),)


def _half_as_deep(base: ModelSpec, budget: Budget) -> ModelSpec | None:
    """The base with fewer blocks, narrower where less than half of its depth would be left."""
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


def largest_shipped(budget: Budget) -> str | None:
    """The name of the largest shipped T2T-ViT within a budget; None where there is none."""
    macs = {}
    for name in catalog.names("specs"):
        model = load_spec(name).model
        if name.startswith("t2t_vit") and isinstance(model, ModelSpec) and within(model, budget):
            macs[name] = predict_cost(model).macs
    return max(macs, key=lambda name: macs[name], default=None)
