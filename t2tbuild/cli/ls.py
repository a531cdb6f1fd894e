"""t2tbuild ls: list the specs that ship."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from t2tbuild.cli.console import print_json, stdout
from t2tbuild.cli.options import Json, parse_choice


class Section(StrEnum):
    """Sections of the catalog."""

    MODELS = "models"
    TRAINING = "training"
    SEARCH = "search"


def ls(
    section: Annotated[
        str | None, typer.Argument(metavar="SECTION", help="models, training or search; by default all of them.")
    ] = None,
    as_json: Json = False,
) -> None:
    """List the specs that ship with t2tbuild; every command accepts their names.

    Example: t2tbuild ls models
    """
    from t2tbuild.report import catalog_table

    sections = [parse_choice(Section, section, "SECTION")] if section else list(Section)
    listed = {str(one): catalog_table.catalog_entries(one.value) for one in sections}
    if as_json:
        print_json(listed)
        return
    for name, entries in listed.items():
        stdout().print(catalog_table.as_table(name, entries))
    if Section.MODELS in sections:
        stdout().print(catalog_table.LEGEND, soft_wrap=True)
