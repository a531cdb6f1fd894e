"""t2tbuild summarize: what a model is made of and what it costs."""

from t2tbuild.cli.console import print_json, stdout
from t2tbuild.cli.options import Json, Overrides, SpecArgument
from t2tbuild.cli.spec import open_spec


def summarize(spec: SpecArgument, overrides: Overrides = None, as_json: Json = False) -> None:
    """Show a model's parts with their tokens, parameters and MACs, counted by fvcore, beside the paper's figures.

    Example: t2tbuild summarize specs/t2t_vit_14.yaml
    """
    document = open_spec(spec, overrides)
    loaded = document.spec

    from t2tbuild.cost import CONVENTION
    from t2tbuild.cost.counter import count_model

    with document.placing():
        cost = count_model(loaded.model)
    if not as_json:
        from t2tbuild.report.cost_table import cost_table

        stdout().print(cost_table(loaded, cost))
        return
    print_json(
        {
            "name": loaded.model.name,
            "image_size": list(loaded.model.image),
            "params": cost.params,
            "trainable_params": cost.trainable_params,
            "macs": cost.macs,
            "convention": CONVENTION,
            "parts": [vars(part) | {"grid": part.grid and list(part.grid)} for part in cost.parts],
            "paper": [dict(row) for row in loaded.paper],
        }
    )
