"""`dotted.key=value` on the command line: fields changed before the spec is validated, each with its place."""

import re
from collections.abc import Sequence
from typing import Any

from t2tbuild.errors import Diagnostic, SpecError
from t2tbuild.spec.scalars import parse_scalar
from t2tbuild.spec.yaml_source import Keys, Place, Source, dotted, read_text

_SHORT = {"attention": "kind", "weights": "file"}  # fields that a bare word may stand for


def apply_overrides(source: Source, overrides: Sequence[str]) -> None:
    """Write every override into the source's data. Raises SpecError that tells what is wrong with any of them."""
    wrong: list[Diagnostic] = []
    for override in overrides:
        try:
            _Override(override).apply(source)
        except SpecError as error:
            wrong += error.diagnostics
    if wrong:
        raise SpecError(wrong)


class _Override:
    """One `dotted.key=value`; the value is read as YAML."""

    def __init__(self, text: str) -> None:
        self.text = text
        self.key, self.equals, self.value = text.partition("=")
        self.file = f"override {text!r:.80}"
        self.parts = self.key.strip().split(".")

    def apply(self, source: Source) -> None:
        """Change the source's data, and note where the change came from."""
        if not self.equals or not all(self.parts):
            told = "an override is written key=value"
            raise self._wrong(Place(self.file, text=self.text), (), told, "for example train.epochs=5")
        path: Keys = ()
        node: Any = source.data
        start = 0
        while True:
            end = self._end_of_key(node, start)
            place = self._key_place(start, end)
            key: Any = self._key_in(node, ".".join(self.parts[start:end]), path, place)
            path, start = (*path, key), end
            if end == len(self.parts):
                break
            below = node.get(key) if isinstance(node, dict) else node[key]
            if isinstance(below, str) and key in _SHORT:
                below = {_SHORT[key]: below}
            below = {} if below is None else below
            node[key] = below
            node = below
            source.values.setdefault(path, place)
            source.keys.setdefault(path, place)
        node[key] = self._read_value(path)
        source.forget(path)
        source.values[path], source.keys[path] = self._value_place(), place

    def _end_of_key(self, node: Any, start: int) -> int:
        """Where the key that begins at a part ends: a key of search.space holds dots itself."""
        ends = range(len(self.parts), start + 1, -1)
        known = (end for end in ends if isinstance(node, dict) and ".".join(self.parts[start:end]) in node)
        return next(known, start + 1)

    def _key_place(self, start: int, end: int) -> Place:
        column = len(".".join([*self.parts[:start], ""])) + 1
        return Place(self.file, 0, column, self.text, len(".".join(self.parts[start:end])))

    def _key_in(self, node: Any, part: str, path: Keys, place: Place) -> str | int:
        """The key or index that `part` means in `node`."""
        if isinstance(node, dict):
            return part
        if isinstance(node, list) and re.fullmatch("[0-9]{1,9}", part) and int(part) < len(node):
            return int(part)
        hint = f"it has 0 to {len(node) - 1}" if isinstance(node, list) else "it is a value, not a mapping"
        raise self._wrong(place, (*path, part), f"there is no {part!r} in {dotted(path)}", hint)

    def _value_place(self) -> Place:
        return Place(self.file, 0, len(self.key) + 2, self.text, max(1, len(self.value)))

    def _read_value(self, path: Keys) -> Any:
        try:
            if self.value.lstrip().startswith(("[", "{", '"', "'")):
                return read_text(self.value, self.file).data
            return parse_scalar(self.value.strip())
        except ValueError as error:
            message, _, hint = str(error).partition("; ")
            raise self._wrong(self._value_place(), path, message, hint, "number") from None
        except SpecError as error:
            (wrong, *_) = error.diagnostics
            raise self._wrong(self._value_place(), path, wrong.message, wrong.hint, wrong.rule) from None

    @staticmethod
    def _wrong(place: Place, path: Keys, message: str, hint: str, rule: str = "override") -> SpecError:
        return SpecError([place.diagnostic(path, rule, message, hint)])
