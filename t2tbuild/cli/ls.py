"""t2tbuild ls: what ships."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from t2tbuild.cli.console import print_json, stdout
from t2tbuild.cli.options import Json, one_of


class Shelf(StrEnum):
    """A part of the catalog."""

    MODELS = "models"
    TRAINING = "training"
    SEARCH = "search"


def ls(
    shelf: Annotated[
        str | None, typer.Argument(metavar="SHELF", help="models, training or search; all of them when left out.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the specs that ship with t2tbuild, by the names under which every command knows them.

    Example: t2tbuild ls models
    """
    from t2tbuild.report import catalog_table

    wanted = [one_of(Shelf, shelf, "SHELF")] if shelf else list(Shelf)
    listed = {str(one): catalog_table.entries(one.value) for one in wanted}
    if as_json:
        print_json(listed)
        return
    for name, entries in listed.items():
        stdout().print(catalog_table.as_table(name, entries))
    if Shelf.MODELS in wanted:
        stdout().print(catalog_table.LEGEND, soft_wrap=True)
