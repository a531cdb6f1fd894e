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
    extensions: Annotated[
        list[str] | None, typer.Option("--extension", metavar="FILE", help="Include the kinds of an extension.")
    ] = None,
) -> None:
    """Print the JSON Schema of spec files, with which editors complete and check them.

    Example: t2tbuild schema search > search.schema.json
    """
    from t2tbuild.spec.schema import json_schema

    for name in extensions or ():
        from t2tbuild.spec.extension.load import load_extension

        load_extension(name)

    language = parse_choice(Language, {"model": "spec", "training": "spec"}.get(kind, kind), "KIND")
    print_json(json_schema("search" if language is Language.SEARCH else "spec"))
