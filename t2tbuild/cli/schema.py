"""t2tbuild schema: print the JSON Schema of the spec language."""

from enum import StrEnum
from typing import Annotated

import typer

from t2tbuild.cli.console import print_json
from t2tbuild.cli.options import parse_choice


class Language(StrEnum):
    """Kinds of spec files that have a schema."""

    SPEC = "spec"
    SEARCH = "search"


def schema(
    kind: Annotated[str, typer.Argument(metavar="KIND", help="spec, for models and trainings, or search.")] = "spec",
) -> None:
    """Print the JSON Schema of spec files, with which editors complete and check them.

    Example: t2tbuild schema search > search.schema.json
    """
    from t2tbuild.spec.schema import json_schema

    language = parse_choice(Language, {"model": "spec", "training": "spec"}.get(kind, kind), "KIND")
    print_json(json_schema("search" if language is Language.SEARCH else "spec"))
