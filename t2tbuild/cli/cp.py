"""t2tbuild cp: copy a shipped spec to a file of your own."""

from __future__ import annotations

import re
import shlex
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from t2tbuild.cli.console import stdout
from t2tbuild.cli.options import Force, complete_spec_name
from t2tbuild.cli.write import resolve_target, write_file
from t2tbuild.errors import InputError
from t2tbuild.spec.modeline import Kind, with_modeline

if TYPE_CHECKING:
    import yaml


def cp(
    name: Annotated[
        str, typer.Argument(metavar="NAME", help="A shipped name, or a path.", autocompletion=complete_spec_name)
    ],
    file: Annotated[Path, typer.Argument(metavar="FILE", help="The file to write, or a folder for it.")],
    force: Force = False,
) -> None:
    """Copy a shipped spec, comments included, to a file of your own.

    The copy is named after its file, and leaves out the paper's figures, which hold for the original.

    Example: t2tbuild cp t2t_vit_14 mine.yaml
    """
    from t2tbuild.spec import catalog
    from t2tbuild.spec.load import check_text, read_any
    from t2tbuild.spec.model import TimmModel
    from t2tbuild.spec.root import SearchSpec

    source = catalog.find(name)
    spec = read_any(source).spec
    kind: Kind = "search" if isinstance(spec, SearchSpec) else "spec"
    if re.match(r"[a-z_.0-9]+=", file.name):
        raise InputError(f"{file}: cp changes no fields; edit the copy, or pass KEY=VALUE to other commands")
    target = resolve_target(file, source.name, force=force)
    text = source.read_text(encoding="utf-8-sig")
    is_timm = not isinstance(spec, SearchSpec) and isinstance(spec.model, TimmModel)
    new_name = None if is_timm else _spec_name(target)  # the name of a timm model is timm's
    edited = _rename(text, "search" if kind == "search" else "model", new_name)
    text = with_modeline(f"# Copied from {shlex.quote(name)}.\n{edited}", kind, target)
    check_text(text, target)  # it may name files relative to its folder
    write_file(target, text)
    stdout().print(f"{name}: copied to {target}; next: t2tbuild validate {shlex.quote(str(target))}", soft_wrap=True)


def _spec_name(file: Path) -> str:
    """Return the name of a spec in `file`: its stem, with other characters than a name may have replaced."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", file.stem).lstrip("._-")
    return name[:64] or "copy"


def _rename(text: str, section: str, name: str | None) -> str:
    """Set the name in a section of a spec's text, and remove its `paper` rows; comments stay.

    A section that is a reference to another spec has no name to set.
    """
    import yaml

    root = yaml.compose(text, Loader=yaml.SafeLoader)
    assert isinstance(root, yaml.MappingNode)
    edits: list[tuple[int, int, str]] = []
    for key, value in root.value:
        if key.value == section and isinstance(value, yaml.MappingNode) and name is not None:
            names = [node for field, node in value.value if field.value == "name"]
            scalar = name if name[0].isalpha() and yaml.safe_load(name) == name else f'"{name}"'
            edits += [(node.start_mark.index, node.end_mark.index, scalar) for node in names]
        if key.value == "paper":
            start = text.rfind("\n", 0, key.start_mark.index) + 1
            end = text.find("\n", _end_index(value))
            edits.append((start, len(text) if end < 0 else end + 1, ""))
    for start, end, replacement in sorted(edits, reverse=True):
        text = text[:start] + replacement + text[end:]
    return text


def _end_index(node: yaml.Node) -> int:
    """Return the index after the last token of a node; the end mark of a block node lies after later comments."""
    import yaml

    if isinstance(node, yaml.CollectionNode) and not node.flow_style and node.value:
        last = node.value[-1]
        return _end_index(last[1] if isinstance(last, tuple) else last)
    return int(node.end_mark.index)
