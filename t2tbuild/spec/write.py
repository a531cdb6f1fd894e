"""Write specs as YAML that loads to an equal spec."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

from t2tbuild.files import atomic_write
from t2tbuild.spec.base import Node
from t2tbuild.spec.diagnostics.scalars import parse_scalar
from t2tbuild.spec.root import SearchSpec, Spec

_BREAKS = set("\x85\u2028\u2029")  # line breaks of YAML 1.1 that PyYAML folds
ONE_LINE = 90  # longest mapping that is written on one line, in characters


def write_spec(spec: Spec | SearchSpec, path: str | Path, note: str = "") -> None:
    """Write a spec as YAML that loads to an equal spec. `note` becomes the comment at the top.

    >>> import tempfile
    >>> from t2tbuild import load_spec
    >>> path = Path(tempfile.mkdtemp()) / "mine.yaml"
    >>> write_spec(load_spec("t2t_vit_7"), path)
    >>> load_spec(path) == load_spec("t2t_vit_7")
    True
    """
    write_data(spec.model_dump(mode="json"), path, note)


def write_data(data: Mapping[str, Any], path: str | Path, note: str = "") -> None:
    """Write plain data of a spec, as `model_dump` returns it, with a comment at the top."""
    comment = "".join(f"# {line}".rstrip() + "\n" for line in note.splitlines())
    atomic_write(Path(path), comment + dump_data(data))


def dump_yaml(spec: Node) -> str:
    """Return a spec node as YAML text. Omitted fields stay omitted."""
    return dump_data(spec.model_dump(mode="json"))


def dump_data(data: Mapping[str, Any]) -> str:
    """Return plain data of a spec, as `model_dump` returns it, as YAML text."""
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


def dump_one_line(value: Any) -> str:
    """Return plain data as YAML on one line."""
    text = yaml.dump(value, Dumper=_Dumper, sort_keys=False, default_flow_style=True, width=10**9, allow_unicode=True)
    return text.removesuffix("\n").removesuffix("\n...")


class _Dumper(yaml.SafeDumper):
    """Writes short mappings on one line, no aliases, and quotes texts that YAML 1.2 would read as numbers."""

    def represent_str(self, data: str) -> yaml.ScalarNode:
        style = '"' if set(data) & _BREAKS else "'" if _needs_quotes(data) else None
        return self.represent_scalar("tag:yaml.org,2002:str", data, style=style)

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        if node.flow_style and sum(len(key.value) + len(value.value) + 4 for key, value in node.value) > ONE_LINE:
            node.flow_style = False
        return node

    def represent_sequence(self, tag: str, sequence: Any, flow_style: bool | None = None) -> yaml.SequenceNode:
        node = super().represent_sequence(tag, sequence, flow_style)
        if node.value and all(isinstance(value, yaml.ScalarNode) for value in node.value):
            node.flow_style = True  # also with quoted texts
        return node

    def ignore_aliases(self, _data: Any) -> bool:
        return True


_Dumper.add_representer(str, _Dumper.represent_str)


def _needs_quotes(text: str) -> bool:
    """Whether a text needs quotes to stay a text in YAML 1.2; PyYAML itself follows YAML 1.1."""
    try:
        return not isinstance(parse_scalar(text), str)
    except ValueError:
        return True
