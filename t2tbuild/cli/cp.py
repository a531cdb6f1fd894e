"""t2tbuild cp: a shipped spec as a file of your own."""

import re
import shlex
from pathlib import Path
from typing import Annotated

import typer

from t2tbuild.cli.console import stdout
from t2tbuild.cli.options import Force, complete_name
from t2tbuild.cli.write import target_file, write_new
from t2tbuild.errors import InputError
from t2tbuild.spec.modeline import Kind, with_modeline


def cp(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A shipped name, or a path.", autocompletion=complete_name)
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, or a folder for it.")],
    force: Force = False,
) -> None:
    """Copy a shipped spec, comments included, as a start for your own.

    Example: t2tbuild cp t2t_vit_14 mine.yaml
    """
    from t2tbuild.spec import catalog
    from t2tbuild.spec.load import check_text, read_any
    from t2tbuild.spec.root import SearchSpec

    found = catalog.find(name)
    document = read_any(found)
    kind: Kind = "search" if isinstance(document.spec, SearchSpec) else "spec"
    if re.match(r"[a-z_.0-9]+=", file.name):
        raise InputError(f"{file}: cp copies a spec as it is; change fields in the copy, or on the command line later")
    target = target_file(file, found.name, force=force)
    text = with_modeline(found.read_text(encoding="utf-8-sig"), kind, target)
    check_text(text, target)  # it may name files that are seen from where it stands
    write_new(target, text)
    stdout().print(f"{name}: copied to {target}; next: t2tbuild validate {shlex.quote(str(target))}", soft_wrap=True)
