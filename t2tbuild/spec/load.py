"""Spec files in and out: YAML text -> validated spec, with every mistake at its place, and back."""

import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, TypeVar

import yaml
from pydantic import ValidationError

from t2tbuild.errors import InputError, SpecError
from t2tbuild.spec import catalog
from t2tbuild.spec.base import Node
from t2tbuild.spec.explain import explain
from t2tbuild.spec.tree import SearchSpec, Spec
from t2tbuild.spec.weights import LOCAL_DIR
from t2tbuild.spec.yaml_source import Keys, Place, Source, dotted, parse_scalar, read_file, read_text

T = TypeVar("T", bound=Node)
ONE_LINE = 90  # characters of a mapping that is written on one line


def load_spec(spec: str | Path, overrides: Sequence[str] = ()) -> Spec:
    """Load a spec by shipped name or path, with `key=value` overrides such as `train.epochs=5`.

    The paper's figures are dropped when an override changes the model that they are of.

    Raises SpecError with file, line, rule and value of every mistake, or InputError when there is no such file.

        >>> load_spec("t2t_vit_14", ["model.image_size=384"]).model.tokens
        577
    """
    path = catalog.find(spec, "specs")
    source = read_file(path)
    _refuse_other_kind(source, wanted="model")
    _take_model_of_another(source, beside=path.parent)
    for override in overrides:
        _override(source, override)
        if override.startswith("model"):
            source.data.pop("paper", None)
    named_here = any(override.partition("=")[0].strip() in ("weights", "weights.file") for override in overrides)
    _find_weights(source, beside=Path() if named_here else path.parent)
    return _validate(source, Spec)


def load_search_spec(spec: str | Path, overrides: Sequence[str] = ()) -> SearchSpec:
    """Load a search spec by shipped name or path, with `key=value` overrides such as `search.trials=8`.

    Raises as `load_spec` does.

        >>> load_search_spec("deep_narrow").search.base
        't2t_vit_14'
    """
    path = catalog.find(spec, "search")
    source = read_file(path)
    _refuse_other_kind(source, wanted="search")
    for override in overrides:
        _override(source, override)
    _find_base(source, beside=path.parent)
    return _validate(source, SearchSpec)


def write_spec(spec: Spec | SearchSpec, path: str | Path, note: str = "") -> None:
    """Write a spec as YAML that loads to an equal spec; `note` becomes the comment at its top.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "mine.yaml"
    >>> write_spec(load_spec("t2t_vit_7"), path)
    >>> load_spec(path) == load_spec("t2t_vit_7")
    True
    """
    comment = "".join(f"# {line}".rstrip() + "\n" for line in note.splitlines())
    Path(path).write_text(comment + dump_yaml(spec), encoding="utf-8")


def dump_yaml(spec: Node) -> str:
    """A spec node as YAML text: fields in their order, what is left out left out."""
    data = spec.model_dump(mode="json")
    return yaml.dump(data, Dumper=_Dumper, sort_keys=False, default_flow_style=None, width=110, allow_unicode=True)


class _Dumper(yaml.SafeDumper):
    """Writes short mappings on one line, long ones on several, and never an alias, which our own reader refuses."""

    def represent_mapping(self, tag: str, mapping: Any, flow_style: bool | None = None) -> yaml.MappingNode:
        node = super().represent_mapping(tag, mapping, flow_style)
        if node.flow_style and sum(len(key.value) + len(value.value) + 4 for key, value in node.value) > ONE_LINE:
            node.flow_style = False
        return node

    def ignore_aliases(self, _data: Any) -> bool:
        return True


def _refuse_other_kind(source: Source, wanted: str) -> None:
    if not isinstance(source.data, dict):
        raise SpecError(
            [source.place(()).diagnostic((), "a spec must be a mapping", f"write {wanted}: and its fields")]
        )
    other, command = ("search", "t2tbuild search") if wanted == "model" else ("model", "t2tbuild summarize or train")
    if other in source.data and wanted not in source.data:
        raise InputError(f"{source.file}: this is a {other} spec; use it with {command}")


def _take_model_of_another(source: Source, beside: Path) -> None:
    """Replace `model: NAME` by the model of the spec of that name, and take its paper row along."""
    name = source.data.get("model")
    if not isinstance(name, str):
        return
    place = source.place(("model",))
    try:
        other = read_file(catalog.find(name, "specs", beside))
    except InputError as error:
        raise SpecError([place.diagnostic(("model",), str(error))]) from None
    if not isinstance(other.data, dict) or not isinstance(other.data.get("model"), dict):
        raise SpecError([place.diagnostic(("model",), f"{other.file} has no model section of its own")])
    for section in ("model", "paper"):
        if section in other.data and (section == "model" or section not in source.data):
            source.data[section] = other.data[section]
            source.values.update({path: place for path, place in other.values.items() if path[:1] == (section,)})
            source.keys.update({path: place for path, place in other.keys.items() if path[:1] == (section,)})


def _find_base(source: Source, beside: Path) -> None:
    """Make a path in `search.base` absolute, seen from the search spec's own folder; a shipped name stays."""
    search = source.data.get("search")
    base = search.get("base") if isinstance(search, dict) else None
    if not isinstance(base, str) or base in catalog.names("specs"):
        return
    try:
        search["base"] = str(catalog.find(base, "specs", beside).resolve())
    except InputError as error:
        raise SpecError([source.place(("search", "base")).diagnostic(("search", "base"), str(error))]) from None


def _find_weights(source: Source, beside: Path) -> None:
    """Make the path of `weights` absolute, seen from the folder of who named it."""
    weights = source.data.get("weights")
    file = weights.get("file") if isinstance(weights, dict) else weights
    if not isinstance(file, str) or not file:
        return
    path = str((beside / file.removeprefix(LOCAL_DIR)).resolve())
    if isinstance(weights, dict):
        weights["file"] = path
    else:
        source.data["weights"] = path


def _override(source: Source, override: str) -> None:
    """Write `dotted.key=value` into the source's data; the value is read as YAML."""
    key, equals, text = override.partition("=")
    shown = Place(f"override {override!r}")
    path: Keys = tuple(int(part) if re.fullmatch("[0-9]{1,9}", part) else part for part in key.strip().split("."))
    if not equals or not all(str(part) for part in path):
        raise SpecError([shown.diagnostic((), "an override is written key=value", "for example train.epochs=5")])
    try:
        value = read_text(text, shown.file).data if text.lstrip().startswith(("[", "{")) else parse_scalar(text.strip())
    except ValueError as error:
        raise SpecError([shown.diagnostic(path, str(error))]) from None
    node = source.data
    for depth, part in enumerate(path):
        last = depth == len(path) - 1
        if isinstance(node, list) and isinstance(part, int) and part < len(node):
            pass
        elif isinstance(node, dict) and isinstance(part, str):
            if not last and not isinstance(node.get(part), dict | list):
                node[part] = {}
        else:
            where = dotted(path[:depth])
            raise SpecError([shown.diagnostic(path, f"there is no {part!r} in {where}")])
        if last:
            node[part] = value
        else:
            node = node[part]
    source.values = {old: place for old, place in source.values.items() if old[: len(path)] != path}
    source.values[path] = source.keys[path] = shown


def _validate(source: Source, root: type[T]) -> T:
    try:
        return root.model_validate(source.data)
    except ValidationError as error:
        raise SpecError(explain(error, source, root)) from None
