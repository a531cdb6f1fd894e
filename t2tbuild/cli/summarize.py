"""t2tbuild summarize: what a model is made of and what it costs."""

from typing import Annotated

import typer

from t2tbuild.cli.console import print_json, stdout


def summarize(
    spec: Annotated[str, typer.Argument(metavar="SPEC", help="A shipped name such as t2t_vit_14, or a path.")],
    overrides: Annotated[
        list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Fields to change, e.g. model.image_size=384.")
    ] = None,
    as_json: Annotated[bool, typer.Option("--json", help="Print one JSON object.")] = False,
) -> None:
    """Show a model's parts with their tokens, parameters and MACs, counted by fvcore, beside the paper's figures.

    Example: t2tbuild summarize specs/t2t_vit_14.yaml
    """
    from t2tbuild.spec import load_spec

    loaded = load_spec(spec, overrides or ())

    from t2tbuild.cost import CONVENTION
    from t2tbuild.cost.counter import count_model

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
