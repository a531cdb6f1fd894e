"""The base of a search within its budget: a base that is over the budget is made smaller, deep and narrow as it is."""

from t2tbuild.accuracy.best_shape import best_shapes
from t2tbuild.cost import predict_cost
from t2tbuild.cost.fit import largest
from t2tbuild.errors import FieldError
from t2tbuild.search.budget import within
from t2tbuild.spec import catalog
from t2tbuild.spec.backbone import PlainBackbone
from t2tbuild.spec.budget import Budget
from t2tbuild.spec.load import load_spec
from t2tbuild.spec.model import ModelSpec
from t2tbuild.spec.partial import Found
from t2tbuild.spec.revise import revise
from t2tbuild.spec.units import short_count


def scaled_into(base: ModelSpec, budget: Budget) -> tuple[ModelSpec, tuple[Found, ...]]:
    """The base, or where it is over the budget, a smaller one of its kind, with a warning that says so.

    The smaller one has the base's tokenizer, options and MLP ratio, and the width and depth of the best predicted
    accuracy; where nothing is predicted, the base's width, or the widest below it that leaves half of the base's depth.
    A base that cannot be scaled is given back as it is.
    """
    backbone = base.backbone
    if within(base, budget) or not isinstance(backbone, PlainBackbone):
        return base, ()
    try:
        shapes = best_shapes(base, lambda model: within(model, budget))
    except FieldError:  # a value a block: another depth has none
        return base, ()
    own = (one.model for one in shapes if one.model.backbone.mlp_ratio == backbone.mlp_ratio)
    scaled = next((model for model in own if model.backbone.embed_dim <= backbone.embed_dim), None)
    scaled = scaled or _half_as_deep(base, backbone, budget)
    if scaled is None:
        return base, ()
    width, depth = scaled.backbone.embed_dim, scaled.backbone.depth
    scaled = scaled.model_copy(update={"name": f"{base.name[:48]}_{depth}x{width}"})
    largest_name = largest_shipped(budget)
    nearest = f"; the largest shipped T2T-ViT within it is {largest_name}" if largest_name else ""
    message = (
        f"the base {base.name} is over {budget.short}; it is scaled to {depth} blocks of width {width}, "
        f"{short_count(predict_cost(scaled).macs)} MACs{nearest}"
    )
    return scaled, (Found(("search", "base"), "base-over-budget", message, "name a base within the budget"),)


def _half_as_deep(base: ModelSpec, backbone: PlainBackbone, budget: Budget) -> ModelSpec | None:
    """The base with fewer blocks, narrower where less than half of its depth would be left."""
    head_dim = backbone.embed_dim // backbone.heads[0]
    found = None
    for width in range(backbone.embed_dim, 0, -head_dim):
        fields = backbone.model_dump() | {"embed_dim": width, "num_heads": None, "head_dim": head_dim}
        models = [
            revise(base, {"backbone": fields | {"depth": depth}}, "scaled into the budget")
            for depth in range(1, backbone.depth + 1)
        ]
        deepest = largest(models, lambda model: within(model, budget))
        if deepest is not None:
            found = deepest
            if 2 * deepest.backbone.depth >= backbone.depth:
                return found
    return found


def largest_shipped(budget: Budget) -> str | None:
    """The name of the largest shipped T2T-ViT within a budget; None where all are over it."""
    macs = {}
    for name in catalog.names("specs"):
        model = load_spec(name).model
        if name.startswith("t2t_vit") and isinstance(model, ModelSpec) and within(model, budget):
            macs[name] = predict_cost(model).macs
    return max(macs, key=lambda name: macs[name], default=None)
