"""t2tbuild schema: the spec language for editors."""

from enum import StrEnum
from typing import Annotated

import typer

from t2tbuild.cli.console import print_json


class Language(StrEnum):
    """Whose schema it is."""

    SPEC = "spec"
    SEARCH = "search"


def schema(
    kind: Annotated[Language, typer.Argument(help="spec: models and trainings. search: searches.")] = Language.SPEC,
) -> None:
    """Print the JSON Schema of spec files, from which editors complete and check them.

    Example: t2tbuild schema search > search.schema.json
    """
    from t2tbuild.spec.schema import json_schema

    print_json(json_schema("search" if kind is Language.SEARCH else "spec"))
