"""ModelSpec -> Cost without torch, in microseconds: the sums of what its symbolic forward counts."""

from t2tbuild.cost.model import Cost, total_cost, with_rows
from t2tbuild.errors import CostError
from t2tbuild.spec.model import AnyModel, TimmModel
from t2tbuild.symbolic.model import model_parts


def predict_cost(model: AnyModel, depth: int = 1) -> Cost:
    """Return the cost of `model`. Each row equals the count of `measure_cost` on the built module exactly.

    `depth` is the number of levels of rows: 1 for the parts, 2 for their modules as well, and so on. Raises CostError
    for a timm model and for a node without a symbolic forward, which only `measure_cost` can count.

    >>> from t2tbuild import load_spec
    >>> predict_cost(load_spec("t2t_vit_14").model).params
    21545550
    """
    if isinstance(model, TimmModel):
        raise CostError(
            f"{model.name} is a timm model, which the closed form does not cover; count it with measure_cost"
        )
    parts = model_parts(model)
    if depth == 1:
        return total_cost([one.cost for one in parts])
    return total_cost([with_rows(one.cost, one.row.modules, one.counts, depth) for one in parts])


def try_predict_cost(model: AnyModel) -> Cost | None:
    """Return the cost of `model`, or None for a timm model and for a node without a symbolic forward."""
    try:
        return predict_cost(model)
    except CostError:
        return None
