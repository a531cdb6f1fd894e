"""Overrides on the command line, `dotted.key=value`: they change fields before the spec is validated."""

import re
from collections.abc import Sequence
from typing import Any

from t2tbuild.errors import Diagnostic, SpecError
from t2tbuild.spec.diagnostics.scalars import ScalarError, format_value, parse_scalar
from t2tbuild.spec.diagnostics.yaml_source import KeyPath, Place, YamlSource, format_path, read_text
from t2tbuild.spec.renamed import new_name, warn_renamed

_SHORT = {"attention": "kind", "weights": "file", "proxy": "preset", "latency": "max"}
"""Fields with a shorthand, and the key that it sets."""


class Override:
    """One override `dotted.key=value`. The value is read as YAML.

    `option` is the option of a command line that the override stands for, such as `--epochs 30`; errors then name it.
    """

    def __init__(self, text: str, option: str = "") -> None:
        self.text, self.option = text, option
        self._written, self.equals, self.value = text.partition("=")
        self.key = self._written.strip()
        self.parts = self.key.split(".")
        self.file = option.partition(" ")[0] or f"override {format_value(text)}"

    def apply_to(self, source: YamlSource) -> None:
        """Change the data of a source and record the place of the change. Mistakes are added to `source.problems`."""
        try:
            self._apply(source)
        except SpecError as error:
            source.problems += error.diagnostics

    def _apply(self, source: YamlSource) -> None:
        if not self.equals or not all(self.parts):
            message = "an override is written key=value"
            raise self._error(Place(self.file, text=self.text), (), message, "for example train.epochs=5")
        path: KeyPath = ()
        node: Any = source.data
        start = 0
        while True:
            end = self._end_of_key(node, start)
            place = self._key_place(start, end)
            key: Any = self._key_in(node, ".".join(self.parts[start:end]), path, place)
            if new := new_name((*path, key)):
                warn_renamed(source, (*path, key), place)
                key = new
            path, start = (*path, key), end
            if end == len(self.parts):
                break
            below = node.get(key) if isinstance(node, dict) else node[key]
            if isinstance(below, str | float | int) and key in _SHORT:
                below = {_SHORT[key]: below}
                source.values[(*path, _SHORT[key])] = source.place(path)
            below = {} if below is None else below
            node[key] = below
            node = below
            source.values.setdefault(path, place)
            source.keys.setdefault(path, place)
        node[key] = self._read_value(path)
        source.drop_places(path)
        source.values[path], source.keys[path] = self._value_place(), place
        source.changes[path] = self._value_place()

    @property
    def place(self) -> Place:
        """The place of the whole key."""
        return self._key_place(0, len(self.parts))

    def _end_of_key(self, node: Any, start: int) -> int:
        """Return the end of the key that begins at a part. A key of search.space contains dots itself."""
        ends = range(len(self.parts), start + 1, -1)
        known = (end for end in ends if isinstance(node, dict) and ".".join(self.parts[start:end]) in node)
        return next(known, start + 1)

    def _key_place(self, start: int, end: int) -> Place:
        if self.option:
            return self._value_place()
        column = len(".".join([*self.parts[:start], ""])) + 1
        return Place(self.file, 0, column, self.text, len(".".join(self.parts[start:end])))

    def _key_in(self, node: Any, part: str, path: KeyPath, place: Place) -> str | int:
        """Return the key or index of `part` in `node`."""
        if isinstance(node, dict):
            return part
        if isinstance(node, list) and re.fullmatch("[0-9]{1,9}", part) and int(part) < len(node):
            return int(part)
        hint = f"it has 0 to {len(node) - 1}" if isinstance(node, list) else "it is a value, not a mapping"
        raise self._error(place, (*path, part), f"there is no {part!r} in {format_path(path)}", hint)

    def _value_place(self) -> Place:
        if self.option:
            name, _, value = self.option.partition(" ")
            return Place(self.file, 0, len(name) + 2, self.option, max(1, len(value)))
        return Place(self.file, 0, len(self._written) + 2, self.text, max(1, len(self.value)))

    def _read_value(self, path: KeyPath) -> Any:
        place = self._value_place()
        if not self.value.lstrip().startswith(("[", "{", '"', "'")):
            try:
                return parse_scalar(self.value.strip())
            except ScalarError as error:
                raise self._error(place, path, error.message, error.hint, "number") from None
        try:
            read = read_text(self.value, self.file)
        except SpecError as error:
            wrong: Sequence[Diagnostic] = error.diagnostics
        else:
            wrong = read.problems
        if wrong:
            raise self._error(place, path, wrong[0].message, wrong[0].hint, wrong[0].rule)
        return read.data

    @staticmethod
    def _error(place: Place, path: KeyPath, message: str, hint: str, rule: str = "override") -> SpecError:
        return SpecError([place.diagnostic(path, rule, message, hint)])
