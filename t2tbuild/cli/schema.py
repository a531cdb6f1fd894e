"""t2tbuild schema: the spec language for editors."""

from enum import StrEnum
from typing import Annotated

import typer

from t2tbuild.cli.console import print_json
from t2tbuild.cli.options import one_of


class Language(StrEnum):
    """Whose schema it is."""

    SPEC = "spec"
    SEARCH = "search"


def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="spec: models and trainings. search: searches.")] = "spec",
) -> None:
    """Print the JSON Schema of spec files, from which editors complete and check them.

    Example: t2tbuild schema search > search.schema.json
    """
    from t2tbuild.spec.schema import json_schema

    language = one_of(Language, {"model": "spec", "training": "spec"}.get(kind, kind), "KIND")
    print_json(json_schema("search" if language is Language.SEARCH else "spec"))
