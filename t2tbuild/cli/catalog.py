"""t2tbuild ls and show: what ships, and what a spec comes to with its defaults filled in."""

from __future__ import annotations

import sys
from enum import StrEnum
from typing import Annotated

import typer

from t2tbuild.cli.console import print_json, stdout
from t2tbuild.cli.options import Json, Overrides, SpecArgument


class Shelf(StrEnum):
    """A part of the catalog."""

    MODELS = "models"
    TRAINING = "training"
    SEARCH = "search"


def ls(
    shelf: Annotated[
        Shelf | None, typer.Argument(help="models, training or search; all of them when left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the specs that ship with t2tbuild, by the names under which every command knows them.

    Example: t2tbuild ls models
    """
    from t2tbuild.report import shelves

    wanted = [shelf] if shelf else list(Shelf)
    listed = {str(one): shelves.entries(one.value) for one in wanted}
    if as_json:
        print_json(listed)
        return
    for name, entries in listed.items():
        stdout().print(shelves.as_table(name, entries))
    if Shelf.MODELS in wanted:
        stdout().print(shelves.LEGEND, soft_wrap=True)


def show(spec: SpecArgument, overrides: Overrides = None, as_json: Json = False) -> None:
    """Print a spec with all its defaults filled in, and where each value came from.

    Add train={} to see the recipe of a spec that has none of its own.

    Example: t2tbuild show t2t_vit_14 model.image_size=384
    """
    from t2tbuild.report.resolved import resolved_values, resolved_yaml
    from t2tbuild.spec.load import read_any

    document = read_any(spec, overrides or ())
    if as_json:
        print_json(resolved_values(document))
    else:
        sys.stdout.write(resolved_yaml(document))
