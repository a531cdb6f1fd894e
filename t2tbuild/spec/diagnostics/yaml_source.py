"""Read YAML text into plain data, with the place of every key and value. Scalars follow YAML 1.2: 1e-3 is a number.

Input that is harmful or misleading is rejected early, before it uses memory: more than 1 MiB, 32 levels, 20,000
values or 32 aliases, tags, recursion, several documents, duplicate keys, numbers with a leading zero.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from itertools import takewhile
from pathlib import Path
from typing import Any

import yaml

from t2tbuild.errors import Diagnostic, SpecError
from t2tbuild.spec.diagnostics.scalars import ScalarError, parse_scalar
from t2tbuild.spec.diagnostics.yaml_syntax import Span, diagnose_encoding, diagnose_syntax, split_lines

MAX_BYTES = 1 << 20
MAX_LEVELS = 32
MAX_VALUES = 20_000
MAX_ALIASES = 32

KeyPath = tuple[str | int, ...]
_Loader: Any = getattr(yaml, "CSafeLoader", yaml.SafeLoader)  # libyaml is ten times as fast


@dataclass(frozen=True, slots=True)
class Place:
    """A place in a file. Line and column count from 1; line 0 means no line, as in a command-line override."""

    file: str
    line: int = 0
    column: int = 0
    text: str = ""
    length: int = 1

    def diagnostic(self, path: KeyPath, rule: str, message: str, hint: str = "") -> Diagnostic:
        """Return an error at this place."""
        return Diagnostic(
            self.file,
            self.line,
            self.column,
            format_path(path),
            rule,
            message,
            hint,
            text=self.text,
            length=self.length,
        )


@dataclass
class YamlSource:
    """Plain data with the place of each key and value in the text that it came from.

    `keys` holds the place of each mapping key, `values` that of each value. `problems` are mistakes that leave the rest
    readable: they are reported together with the mistakes that validation finds. `warnings` concern the text itself.
    `changes` holds the places of the fields that the command line changed, by path.
    """

    file: str
    data: Any = None
    keys: dict[KeyPath, Place] = field(default_factory=dict)
    values: dict[KeyPath, Place] = field(default_factory=dict)
    problems: list[Diagnostic] = field(default_factory=list)
    warnings: list[Diagnostic] = field(default_factory=list)
    changes: dict[KeyPath, Place] = field(default_factory=dict)

    def value_at(self, path: KeyPath) -> Any:
        """Return the value at a path of the data, or None if there is none."""
        value = self.data
        for part in path:
            inside = isinstance(value, list) and isinstance(part, int) and part < len(value)
            value = value[part] if inside or (isinstance(value, dict) and part in value) else None
        return value

    def at_override(self, diagnostic: Diagnostic) -> Diagnostic:
        """Return the diagnostic at the place of the nearest override, for a file that was valid without overrides."""
        if not self.changes or not diagnostic.line:
            return diagnostic
        parts = diagnostic.path.split(".")

        def shared(path: KeyPath) -> int:
            return sum(1 for _ in takewhile(lambda pair: pair[0] == str(pair[1]), zip(parts, path, strict=False)))

        place = self.changes[max(self.changes, key=shared)]
        return replace(diagnostic, file=place.file, line=0, column=place.column, text=place.text, length=place.length)

    def add_warning(self, diagnostic: Diagnostic) -> None:
        """Add a diagnostic to the warnings."""
        self.warnings.append(replace(diagnostic, severity="warning"))

    def drop_places(self, path: KeyPath) -> None:
        """Drop the places of `path` and of everything below it."""
        self.values = {other: place for other, place in self.values.items() if other[: len(path)] != path}
        self.keys = {other: place for other, place in self.keys.items() if other[: len(path)] != path}

    def move_places(self, old: KeyPath, new: KeyPath) -> None:
        """Move the places of `old` and of everything below it to `new`."""

        def moved(places: dict[KeyPath, Place]) -> dict[KeyPath, Place]:
            end = len(old)
            return {new + path[end:] if path[:end] == old else path: place for path, place in places.items()}

        self.values, self.keys, self.changes = moved(self.values), moved(self.keys), moved(self.changes)

    def key_place(self, path: KeyPath) -> Place:
        """Return the place of the key at `path`."""
        return self.keys.get(path) or self.place(path)

    def section_place(self, path: KeyPath) -> Place:
        """Return the place for a rule about the whole value at `path`: the key of a block mapping, else the value."""
        value, place = self.value_at(path), self.place(path)
        braces = place.text[place.column - 1 : place.column] == "{"
        return self.keys[path] if isinstance(value, dict) and path in self.keys and not braces else place

    def place(self, path: KeyPath) -> Place:
        """Return the place of the value at `path`, or of the nearest key around it if there is no such value."""
        if path in self.values:
            return self.values[path]
        while path and path not in self.keys and path not in self.values:
            path = path[:-1]
        return self.keys.get(path) or self.values.get(path) or Place(self.file)


def format_path(path: KeyPath) -> str:
    """Return a path in its dotted form: model.tokenizer.stages.0.patch_size."""
    return ".".join(str(part) for part in path)


def read_file(path: Path) -> YamlSource:
    """Read a YAML file. Raises SpecError if it cannot be read or is not plain YAML."""
    whole = Place(str(path))
    if not path.is_file():  # reading a device or a FIFO might never end
        raise SpecError([whole.diagnostic((), "file", "not a regular file", "name a YAML file")])
    try:
        with path.open("rb") as stream:
            raw = stream.read(MAX_BYTES + 1)
    except OSError as error:
        message = f"cannot be read: {error.strerror}"
        raise SpecError([whole.diagnostic((), "file", message, "check its permissions")]) from None
    if len(raw) > MAX_BYTES:
        raise SpecError([whole.diagnostic((), "size", "larger than 1 MiB", "a spec is a few lines of YAML")])
    try:
        text = raw.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise SpecError([diagnose_encoding(raw, error, str(path))]) from None
    return read_text(text, str(path))


def read_text(text: str, file: str) -> YamlSource:
    """Read YAML text. `file` is the name that messages show. Raises SpecError if the text is not plain YAML."""
    return _Reader(file, text).read(text)


class _Reader:
    """Reads a YAML text into a YamlSource."""

    def __init__(self, file: str, text: str) -> None:
        self.source = YamlSource(file)
        self.lines = split_lines(text)
        self.values = 0

    def read(self, text: str) -> YamlSource:
        try:
            self._check_events(text)
            node = yaml.compose(text, Loader=_Loader)
        except yaml.YAMLError as error:
            span, *message = diagnose_syntax(error, text)
            raise SpecError([self._place(span).diagnostic((), *message)]) from None
        if node is None or (isinstance(node, yaml.ScalarNode) and not node.value and not node.style):
            place = Place(self.source.file)
            raise SpecError([place.diagnostic((), "empty", "spec is empty", "t2tbuild init writes one")])
        self.source.data = self._convert(node, (), ())
        return self.source

    def _place(self, span: Span) -> Place:
        text = self.lines[span.line] if 0 <= span.line < len(self.lines) else ""
        return Place(self.source.file, span.line + 1, span.column + 1, text, max(1, span.length))

    def _place_of(self, node: Any) -> Place:
        start, end = node.start_mark, node.end_mark
        one_line = end.line == start.line
        return self._place(Span(start.line, start.column, end.column - start.column if one_line else 1))

    def _check_events(self, text: str) -> None:
        level = documents = values = aliases = 0
        for event in yaml.parse(text, Loader=_Loader):
            message: Sequence[str] = ()
            values += isinstance(event, yaml.NodeEvent)
            if isinstance(event, yaml.DocumentStartEvent):
                documents += 1
                if documents > 1:
                    message = "documents", "several documents in one file", "one spec per file; remove the line ---"
            elif isinstance(event, yaml.CollectionStartEvent):
                level += 1
                if level > MAX_LEVELS:
                    message = "nesting", f"nested deeper than {MAX_LEVELS} levels", "a spec needs six"
            elif isinstance(event, yaml.CollectionEndEvent):
                level -= 1
            elif isinstance(event, yaml.AliasEvent):
                aliases += 1
                if aliases > MAX_ALIASES:
                    message = "aliases", f"more than {MAX_ALIASES} aliases", "write the values out"
            tag = getattr(event, "tag", None)
            if tag:
                message = "tag", f"tag {tag!r:.60}", "a spec is plain YAML; remove the tag"
            if values > MAX_VALUES:
                message = "size", f"more than {MAX_VALUES:,} values", "a spec has a hundred"
            if message:
                raise SpecError([self._place_of(event).diagnostic((), *message)])

    def _convert(self, node: Any, path: KeyPath, above: tuple[yaml.Node, ...]) -> Any:
        place = self.source.values[path] = self._place_of(node)
        self.values += 1
        if node in above:
            raise SpecError(
                [place.diagnostic(path, "recursion", "an alias of a node that contains it", "write the value out")]
            )
        if self.values > MAX_VALUES:
            raise SpecError([place.diagnostic(path, "aliases", f"aliases make more than {MAX_VALUES:,} values", "")])
        if isinstance(node, yaml.SequenceNode):
            return [self._convert(child, (*path, index), (*above, node)) for index, child in enumerate(node.value)]
        if isinstance(node, yaml.MappingNode):
            return self._convert_mapping(node, path, (*above, node))
        if node.style:  # quoted and block scalars are text
            return node.value
        try:
            return parse_scalar(node.value)
        except ScalarError as error:
            self.source.problems.append(place.diagnostic(path, "number", error.message, error.hint))
            return node.value

    def _convert_mapping(self, node: yaml.MappingNode, path: KeyPath, above: tuple[yaml.Node, ...]) -> dict[str, Any]:
        data: dict[str, Any] = {}
        for key_node, value_node in node.value:
            place = self._place_of(key_node)
            if not isinstance(key_node, yaml.ScalarNode):
                self.source.problems.append(place.diagnostic(path, "key", "a key must be a word", "write key: value"))
                continue
            key = key_node.value
            here = (*path, key)
            if key in data:
                first = self.source.keys[here]
                message = f"duplicate key {key!r:.60}, first in line {first.line} ({first.text.strip():.60})"
                self.source.problems.append(place.diagnostic(here, "duplicate-key", message, "remove one of the two"))
                continue
            if key == "<<":
                hint = "YAML 1.2 has no merge keys; write the fields out"
                self.source.problems.append(place.diagnostic(here, "merge-key", "a merge key", hint))
                continue
            self.source.keys[here] = place
            data[key] = self._convert(value_node, here, above)
        return data
