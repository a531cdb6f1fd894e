"""The arguments and options that commands share."""

from pathlib import Path
from typing import Annotated

import typer

from t2tbuild.cli import console


def complete_name(incomplete: str) -> list[str]:
    """Shipped names and YAML files that begin as what has been typed, for the shell."""
    from t2tbuild.spec import catalog

    shipped = [name for kind in ("specs", "training", "search") for name in catalog.names(kind)]
    typed = Path(incomplete)
    folder = typed if incomplete.endswith("/") else typed.parent
    found = sorted(folder.iterdir()) if folder.is_dir() else []
    files = [f"{path}/" if path.is_dir() else str(path) for path in found if path.is_dir() or path.suffix == ".yaml"]
    return [name for name in [*shipped, *files] if name.startswith(incomplete)]


def complete_shipped(incomplete: str) -> list[str]:
    """Shipped names that begin as what has been typed, for the shell."""
    from t2tbuild.spec import catalog

    shipped = [name for kind in ("specs", "training", "search") for name in catalog.names(kind)]
    return [name for name in shipped if name.startswith(incomplete)]


SpecArgument = Annotated[
    str,
    typer.Argument(metavar="SPEC", help="A shipped name such as t2t_vit_14, or a path.", autocompletion=complete_name),
]
Overrides = Annotated[
    list[str] | None, typer.Argument(metavar="KEY=VALUE", help="Fields to change, e.g. model.image_size=384.")
]
Json = Annotated[
    bool, typer.Option("--json", callback=console.want_json, help="Print one JSON object; mistakes as a JSON list.")
]
Force = Annotated[bool, typer.Option("--force", help="Replace the file if it is there.")]
