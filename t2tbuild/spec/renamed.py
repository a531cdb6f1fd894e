"""Spec fields that were renamed. The old name is accepted for one version, with a warning that names the new one."""

import warnings
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from pydantic import model_validator
from pydantic_core import PydanticCustomError

from t2tbuild.spec.base import Node

if TYPE_CHECKING:
    from t2tbuild.spec.diagnostics.yaml_source import KeyPath, Place, YamlSource
    from t2tbuild.spec.overrides import Override

RENAMED = {
    "search.baseline": "search.random_fraction",
    "search.scores": "search.zero_cost",
    "search.proxy.keep": "search.proxy.reduction_factor",
    "search.proxy.stop": "search.proxy.scheduler",
}
"""Old path -> new path. Both have the same parent."""

_HINT = "the old name is accepted for one version"


def new_name(path: "KeyPath") -> str:
    """Return the new name of the field at an old path, or an empty string if the field was not renamed."""
    return RENAMED.get(".".join(map(str, path)), "").rpartition(".")[2]


def warn_renamed(source: "YamlSource", path: "KeyPath", place: "Place") -> None:
    """Add a warning that the field at an old path has a new name."""
    message, hint = f"{path[-1]} was renamed to {new_name(path)}", f"write {new_name(path)}; {_HINT}"
    source.add_warning(place.diagnostic(path, "renamed", message, hint))


def rename_fields(source: "YamlSource") -> None:
    """Give every renamed field of a source its new name, at the same place, and warn of the old one.

    A field that is written under both names is an error at the place of the old name.
    """
    for old in RENAMED:
        path: KeyPath = tuple(old.split("."))
        parent, new = source.value_at(path[:-1]), new_name(path)
        if not isinstance(parent, dict) or path[-1] not in parent:
            continue
        place = source.key_place(path)
        if new in parent:
            _refuse_both(source, path, place)
            del parent[path[-1]]
            source.drop_places(path)
            continue
        warn_renamed(source, path, place)
        fields = {new if key == path[-1] else key: value for key, value in parent.items()}
        parent.clear()
        parent.update(fields)
        source.move_places(path, (*path[:-1], new))


def check_overrides(overrides: "Sequence[Override]", source: "YamlSource") -> None:
    """Report every override that sets a field by its old name where another sets it by its new name."""
    keys = {override.key for override in overrides}
    for override in overrides:
        for old, new in RENAMED.items():
            written = override.key == old or override.key.startswith(f"{old}.")
            if written and new + override.key.removeprefix(old) in keys:
                _refuse_both(source, tuple(old.split(".")), override.place)


def _refuse_both(source: "YamlSource", path: "KeyPath", place: "Place") -> None:
    message = f"{path[-1]} was renamed to {new_name(path)}, and both are given"
    source.problems.append(place.diagnostic(path, "renamed", message, f"remove {path[-1]}"))


class RenamedFields(Node):
    """A node of which some fields were renamed. From Python, the old names work with a DeprecationWarning."""

    @model_validator(mode="before")
    @classmethod
    def _accept_old_names(cls, value: Any) -> Any:
        if not isinstance(value, dict):
            return value
        names = _old_names(cls)
        for old in names.keys() & value.keys():
            if names[old] in value:
                message = f"{old} was renamed to {names[old]}, and both are given"
                raise PydanticCustomError("renamed", "{message}", {"message": message})
            warn_old_name(old, names[old])
        return {names.get(key, key): item for key, item in value.items()}

    if not TYPE_CHECKING:

        def __getattr__(self, name: str) -> Any:
            """Return the value of a field by its old name."""
            if new := _old_names(type(self)).get(name):
                warn_old_name(name, new)
                return getattr(self, new)
            return super().__getattr__(name)


def _old_names(node: type[Node]) -> dict[str, str]:
    """Return the new name of each renamed field of a node, by its old name."""
    pairs = [(old.rpartition(".")[2], new.rpartition(".")[2]) for old, new in RENAMED.items()]
    return {old: new for old, new in pairs if new in node.model_fields and old not in node.model_fields}


def warn_old_name(old: str, new: str) -> None:
    """Issue a DeprecationWarning at the caller of the function that was asked for an old name."""
    warnings.warn(f"{old} was renamed to {new}; {_HINT}", DeprecationWarning, stacklevel=3)


def warn_of_source(source: "YamlSource") -> None:
    """Issue the warnings of a source: a DeprecationWarning for each renamed field that it writes by its old name."""
    for diagnostic in source.warnings:
        category = DeprecationWarning if diagnostic.rule == "renamed" else UserWarning
        warnings.warn(str(diagnostic), category, stacklevel=3)
